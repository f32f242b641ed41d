// Runs under any Node >= 20 and before anything is installed: only `node:` modules here.
import { spawn } from "node:child_process";
import { existsSync, readFileSync, realpathSync } from "node:fs";
import { delimiter, join } from "node:path";
import { fileURLToPath } from "node:url";

/** The checkout this script stands in. */
export const root = fileURLToPath(new URL("..", import.meta.url));

const binaries = join(root, "node_modules", ".bin");

/** The Node that runs the product: it comes from npm, so the host needs only a Node that can run npm. */
export const bundledNode = join(binaries, "node");

/** Whether this process already runs under the bundled Node, as it does whenever npm starts a script. */
export const underBundledNode = () =>
  existsSync(bundledNode) && realpathSync(bundledNode) === realpathSync(process.execPath);

/** The environment with the installed binaries, the bundled Node among them, first in PATH. */
export const toolEnv = (extra = {}) => ({
  ...process.env,
  PATH: [binaries, ...hostPath()].join(delimiter),
  ...extra,
});

const hostPath = () =>
  (process.env.PATH ?? "").split(delimiter).filter((dir) => !dir.includes("node_modules"));

const readLock = (file) => {
  try {
    return JSON.parse(readFileSync(file, "utf8")).packages ?? {};
  } catch {
    return null;
  }
};

const lists = (field, value) => field === undefined || [field].flat().includes(value);

/** Optional packages of other platforms, or of one C library, and development tools where none are asked for. */
const mayBeAbsent = (entry, withDev) => {
  if (entry.link === true) return false;
  if (entry.dev === true && !withDev) return true;
  if (entry.optional !== true) return false;
  const platformBound = entry.os !== undefined || entry.cpu !== undefined;
  return (
    !platformBound ||
    entry.libc !== undefined ||
    !lists(entry.os, process.platform) ||
    !lists(entry.cpu, process.arch)
  );
};

/**
 * Whether `node_modules` holds what `package-lock.json` names. npm writes the inner lock file last, so
 * an interrupted installation is never taken for a whole one.
 */
export const isInstalled = ({ withDev, dir = root }) => {
  const wanted = readLock(join(dir, "package-lock.json"));
  const present = readLock(join(dir, "node_modules", ".package-lock.json"));
  if (wanted === null || present === null || !existsSync(join(dir, "node_modules", ".bin", "node")))
    return false;
  return Object.entries(wanted).every(([path, entry]) => {
    if (!path.startsWith("node_modules/") && !path.includes("/node_modules/")) return true;
    const found = present[path];
    if (found === undefined) return mayBeAbsent(entry, withDev);
    return found.version === entry.version && found.integrity === entry.integrity;
  });
};

const npmCi = () =>
  new Promise((resolve, reject) => {
    // The host's npm and Node: `npm ci` deletes the bundled one before it brings it back. No package
    // needs its install script, and many hosts block them.
    const child = spawn(
      "npm",
      [
        "ci",
        "--ignore-scripts",
        "--include=dev",
        "--include=optional",
        "--no-audit",
        "--no-fund",
        "--loglevel=error",
      ],
      {
        cwd: root,
        env: { ...process.env, PATH: hostPath().join(delimiter) },
        stdio: ["ignore", 2, 2],
      },
    );
    child.once("error", (cause) =>
      reject(new Error("npm was not found in PATH; npm >= 10 is needed", { cause })),
    );
    child.once("exit", (code) =>
      code === 0
        ? resolve()
        : reject(new Error(`npm ci failed with exit code ${code}; its messages are above`)),
    );
  });

/**
 * Installs what is missing. `withDev: false` is content with a production installation. Rejects with
 * a message for humans.
 */
export const ensureInstalled = async ({ withDev }) => {
  if (!isInstalled({ withDev })) {
    console.error("mini-chat: installing dependencies with npm ci, once …");
    await npmCi();
  }
  if (!existsSync(bundledNode)) {
    throw new Error(`no Node 24 for ${process.platform}-${process.arch} is among the dependencies`);
  }
};
