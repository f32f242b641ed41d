// `npm run bench -- NAME`: runs bench/NAME.ts and prints its result as JSON.
import { spawn } from "node:child_process";
import { existsSync, readdirSync } from "node:fs";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { bundledNode, ensureInstalled, root, underBundledNode } from "./install.mjs";

const name = process.argv[2] ?? "";
const file = join(root, "bench", `${name}.ts`);

const benchmarks = () =>
  readdirSync(join(root, "bench"))
    .filter((entry) => entry.endsWith(".ts") && entry !== "support.ts")
    .map((entry) => entry.slice(0, -3));

if (!/^[a-z0-9-]+$/.test(name) || name === "support" || !existsSync(file)) {
  console.error(`usage: npm run bench -- NAME\nbenchmarks: ${benchmarks().join(", ") || "none"}`);
  process.exitCode = 2;
} else if (underBundledNode()) {
  const { run } = await import(pathToFileURL(file).href);
  console.log(JSON.stringify(await run(), null, 2));
} else {
  await ensureInstalled({ withDev: true });
  const child = spawn(bundledNode, [import.meta.filename, name, ...process.argv.slice(3)], {
    stdio: "inherit",
  });
  child.once("exit", (code) => {
    process.exitCode = code ?? 1;
  });
}
