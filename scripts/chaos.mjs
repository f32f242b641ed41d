// `npm run chaos -- --seed N --seconds N`: processes that are killed at random around one outbox, and the
// verdict as JSON. Exit 0 when every promise was kept.
import { spawn } from "node:child_process";
import { join } from "node:path";
import { bundledNode, ensureInstalled, root } from "./install.mjs";

const main = join(root, "packages", "server", "test", "chaos", "main.ts");

await ensureInstalled({ withDev: true });
const child = spawn(bundledNode, [main, ...process.argv.slice(2)], { stdio: "inherit" });
for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"]) process.on(signal, () => child.kill(signal));
child.once("exit", (code) => {
  process.exitCode = code ?? 1;
});
