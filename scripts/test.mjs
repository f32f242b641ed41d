// `npm test`: types, lint, import direction, all tests, and the database tests again on PostgreSQL 15.
// `--static` stops after the checks; other arguments select test files. The last line is the verdict.
import { spawn } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, relative } from "node:path";
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
/** What failed, by name: whoever sees only the end of a long output finds it there. */
const failures = [];
const running = new Set();
let interrupted = false;

const verdict = (name, failed) => {
  count[failed ? "failed" : "passed"] += 1;
  if (failed) failures.push(name);
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
    verdict(name, failed);
  }
};

/** The failures of a vitest run; a file that could not even be loaded counts as one. */
const failuresOf = (report) =>
  report.testResults.flatMap((file) => {
    const name = relative(root, file.name);
    const tests = file.assertionResults.filter((test) => test.status === "failed");
    if (tests.length === 0) return file.status === "failed" ? [`${name}\n${file.message}`] : [];
    return tests.map((test) => `${name} > ${test.fullName}\n${test.failureMessages.join("\n")}`);
  });

/** Adds what a vitest run reported. */
const addReport = (label, file, exitCode) => {
  let failed = [];
  try {
    const report = JSON.parse(readFileSync(file, "utf8"));
    failed = failuresOf(report);
    count.passed += report.numPassedTests;
  } catch {
    // No report: the runner itself broke down.
  }
  if (failed.length === 0 && exitCode !== 0) failed.push(`the runner ended with exit code ${exitCode}`);
  count.failed += failed.length;
  failures.push(...failed.map((one) => `${label}: ${one}`));
};

const runVitest = async (label, filters, env = {}) => {
  console.log(`\n${label}`);
  const dir = mkdtempSync(join(tmpdir(), "mini-chat-test-"));
  const report = join(dir, "report.json");
  try {
    const reporters = ["--reporter=default", "--reporter=json", `--outputFile.json=${report}`];
    const exitCode = await run([tool("vitest/vitest.mjs"), "run", ...reporters, ...filters], env);
    addReport(label, report, exitCode);
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
    verdict("the PostgreSQL 15 server", true);
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
  verdict(error.message, true);
}
if (interrupted && count.failed === 0) verdict("interrupted", true);
for (const failure of failures) console.log(`\nFAILED  ${failure.slice(0, 2_000)}`);
console.log(`${count.passed} passed, ${count.failed} failed`);
process.exitCode = count.failed === 0 && count.passed > 0 ? 0 : 1;
