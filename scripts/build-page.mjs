// `npm run build`: the page of packages/web into packages/web/dist, unless what is there was made of these sources.
import { spawn } from "node:child_process";
import { createHash } from "node:crypto";
import { existsSync, readdirSync, readFileSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { join, relative } from "node:path";
import { fileURLToPath } from "node:url";
import { bundledNode, root, toolEnv } from "./install.mjs";

const web = join(root, "packages", "web");
const dist = join(web, "dist");
const stamp = join(dist, ".sources");
const vite = join(root, "node_modules", "vite", "bin", "vite.js");

const filesBelow = (path) =>
  readdirSync(path, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map((entry) => join(entry.parentPath ?? entry.path, entry.name));

const sources = () => [
  ...filesBelow(join(web, "src")),
  ...filesBelow(join(root, "packages", "client", "src")),
  ...["index.html", "vite.config.ts", "package.json"].map((name) => join(web, name)),
  join(root, "package-lock.json"),
];

/** What a build is made of; times say little in a checkout. */
const fingerprint = () => {
  const hash = createHash("sha256");
  for (const file of sources().sort()) hash.update(`${relative(root, file)}\0`).update(readFileSync(file));
  return hash.digest("hex");
};

/** Whether the built page is there and made of the sources as they are. */
export const isBuilt = () => existsSync(stamp) && readFileSync(stamp, "utf8") === fingerprint();

const runVite = (outDir) =>
  new Promise((resolve, reject) => {
    const child = spawn(
      bundledNode,
      [vite, "build", "--outDir", outDir, "--emptyOutDir", "--logLevel", "warn"],
      {
        cwd: web,
        env: toolEnv({ NODE_ENV: "production" }),
        stdio: ["ignore", 2, 2],
      },
    );
    child.once("error", reject);
    child.once("exit", (code) =>
      code === 0 ? resolve() : reject(new Error(`the build of the page failed with exit code ${code}`)),
    );
  });

/**
 * Builds the page when it is missing or older than its sources. Into a directory of its own first: a server or
 * another build never meets half of it. Without the build tools, as in a production installation, what is there
 * stays. Rejects when the build fails.
 */
export const ensurePage = async () => {
  if (isBuilt() || !existsSync(vite)) return;
  console.error("mini-chat: building the page, once …");
  const made = fingerprint();
  const fresh = `${dist}.${process.pid}`;
  const old = `${fresh}.old`;
  try {
    await runVite(fresh);
    writeFileSync(join(fresh, ".sources"), made);
    if (existsSync(dist)) renameSync(dist, old);
    renameSync(fresh, dist);
  } finally {
    for (const directory of [fresh, old]) rmSync(directory, { recursive: true, force: true });
  }
};

if (process.argv[1] === fileURLToPath(import.meta.url)) await ensurePage();
