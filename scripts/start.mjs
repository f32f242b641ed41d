// `npm start [-- arguments]`: from a fresh clone to a serving process under the bundled Node.
import { spawn } from "node:child_process";
import { join } from "node:path";
import { ensurePage } from "./build-page.mjs";
import { bundledNode, ensureInstalled, root, underBundledNode } from "./install.mjs";

const main = join(root, "packages", "server", "src", "main.ts");

const fail = (error) => {
  console.error(`mini-chat: ${error.message}`);
  process.exitCode = 1;
};

/** The child gets every signal once: Ctrl-C reaches us from the terminal and again through npm. */
const forwardSignals = (child) => {
  const last = new Map();
  for (const signal of ["SIGINT", "SIGTERM", "SIGHUP", "SIGQUIT"]) {
    process.on(signal, () => {
      const now = performance.now();
      if (now - (last.get(signal) ?? Number.NEGATIVE_INFINITY) > 500) child.kill(signal);
      last.set(signal, now);
    });
  }
};

const runUnderBundledNode = () => {
  // Detached, so that the terminal's signals come through here only; the channel tells the child
  // when we are gone, however we went.
  const child = spawn(
    bundledNode,
    ["--import", new URL("parent-watch.mjs", import.meta.url).href, main, ...process.argv.slice(2)],
    { stdio: ["inherit", "inherit", "inherit", "ipc"], detached: true },
  );
  forwardSignals(child);
  child.once("error", fail);
  child.once("exit", (code, signal) => {
    if (signal === null) process.exit(code ?? 1);
    process.removeAllListeners(signal);
    process.kill(process.pid, signal);
  });
};

/** Other commands need no page. */
const serves = () => [undefined, "serve"].includes(process.argv[2]) || process.argv[2].startsWith("-");

try {
  await ensureInstalled({ withDev: false });
  if (serves())
    await ensurePage().catch((error) =>
      console.error(`mini-chat: ${error.message}; the API is served without it`),
    );
  if (underBundledNode()) {
    process.argv[1] = main;
    await import(main);
  } else {
    runUnderBundledNode();
  }
} catch (error) {
  fail(error);
}
