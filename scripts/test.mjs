// `npm test`: types, lint, import direction, all tests, and the database tests again on PostgreSQL 15.
// `--static` stops after the checks; other arguments select test files. The last line is the verdict.
import { spawn } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { bundledNode, ensureInstalled, root, toolEnv } from "./install.mjs";
import { hasPostgres15, startPostgres15 } from "./postgres.mjs";

const tool = (path) => join(root, "node_modules", path);

const checks = [
  { name: "types", command: [tool("typescript/bin/tsc"), "--noEmit"] },
  { name: "types of the page", command: [tool("typescript/bin/tsc"), "--noEmit", "-p", "packages/web"] },
  { name: "lint and format", command: [tool("@biomejs/biome/bin/biome"), "check", "."] },
  { name: "import direction", command: [join(root, "scripts", "import-direction.mjs")] },
];

/** Where SQL meets the server's version: these run a second time on PostgreSQL 15. */
const databaseSlices = ["db", "outbox", "quota", "turns"];

const count = { passed: 0, failed: 0 };
const running = new Set();
let interrupted = false;

const verdict = (failed) => {
  count[failed ? "failed" : "passed"] += 1;
};

/** Runs a tool under the bundled Node to its end; its exit code, 1 when a signal ended it. */
const run = (command, env = {}) =>
  new Promise((resolve) => {
    if (interrupted) return resolve(1);
    const child = spawn(bundledNode, command, {
      cwd: root,
      env: toolEnv(env),
      stdio: ["ignore", "inherit", "inherit"],
    });
    running.add(child);
    child.once("error", () => resolve(1));
    child.once("exit", (code) => {
      running.delete(child);
      resolve(code ?? 1);
    });
  });

const runChecks = async () => {
  for (const { name, command } of checks) {
    const started = performance.now();
    const failed = (await run(command)) !== 0;
    console.log(`${failed ? "FAILED" : "ok"}  ${name} (${Math.round(performance.now() - started)} ms)`);
    verdict(failed);
  }
};

/** Adds what a vitest run reported. A file that could not even be loaded counts as one failure. */
const addReport = (file, exitCode) => {
  let failed = 0;
  try {
    const report = JSON.parse(readFileSync(file, "utf8"));
    const unloaded = report.testResults.filter(
      (suite) =>
        suite.status === "failed" && !suite.assertionResults.some((test) => test.status === "failed"),
    );
    failed = report.numFailedTests + unloaded.length;
    count.passed += report.numPassedTests;
  } catch {
    // No report: the runner itself broke down.
  }
  count.failed += failed === 0 && exitCode !== 0 ? 1 : failed;
};

const runVitest = async (label, filters, env = {}) => {
  console.log(`\n${label}`);
  const dir = mkdtempSync(join(tmpdir(), "mini-chat-test-"));
  const report = join(dir, "report.json");
  try {
    const reporters = ["--reporter=default", "--reporter=json", `--outputFile.json=${report}`];
    const exitCode = await run([tool("vitest/vitest.mjs"), "run", ...reporters, ...filters], env);
    addReport(report, exitCode);
  } finally {
    rmSync(dir, { recursive: true, force: true });
  }
};

const runOnPostgres15 = async () => {
  if (!hasPostgres15()) {
    console.log("\nPostgreSQL 15 is not installed here: the database tests ran on the embedded server only");
    return;
  }
  try {
    const server = await startPostgres15();
    try {
      const filters = databaseSlices.map((slice) => `packages/server/test/${slice}/`);
      await runVitest("Database tests on PostgreSQL 15", filters, {
        MINI_CHAT_TEST_DATABASE_URL: server.url,
      });
    } finally {
      await server.stop();
    }
  } catch (error) {
    console.error(error.message);
    verdict(true);
  }
};

for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"]) {
  process.on(signal, () => {
    interrupted = true;
    for (const child of running) child.kill(signal);
  });
}

const filters = process.argv.slice(2).filter((argument) => argument !== "--static");
try {
  await ensureInstalled({ withDev: true });
  if (filters.length === 0) await runChecks();
  if (!process.argv.includes("--static")) {
    await runVitest("Tests", filters);
    if (filters.length === 0 && !interrupted) await runOnPostgres15();
  }
} catch (error) {
  console.error(`mini-chat: ${error.message}`);
  verdict(true);
}
if (interrupted && count.failed === 0) verdict(true);
console.log(`${count.passed} passed, ${count.failed} failed`);
process.exitCode = count.failed === 0 && count.passed > 0 ? 0 : 1;
