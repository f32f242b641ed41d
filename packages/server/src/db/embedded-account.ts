import { spawnSync } from "node:child_process";
import { readFileSync, statSync } from "node:fs";
import { userInfo } from "node:os";

/** PostgreSQL refuses to run, or could not run, under the accounts and paths it was given. */
export class EmbeddedError extends Error {
  override name = "EmbeddedError";
}

/** The account the server runs as where it cannot be ours: PostgreSQL refuses root. */
export interface Account {
  readonly uid: number;
  readonly gid: number;
}

/**
 * Whom the server of this cluster runs as: null = as ourselves. As root it is the owner of the files
 * that are there, and `nobody` for new ones.
 */
export const serverAccount = (clusterDir: string): Account | null => {
  if (process.getuid?.() !== 0) return null;
  const owner = statSync(clusterDir, { throwIfNoEntry: false });
  if (owner !== undefined && owner.uid !== 0) return { uid: owner.uid, gid: owner.gid };
  const line = readFileSync("/etc/passwd", "utf8")
    .split("\n")
    .find((entry) => entry.startsWith("nobody:"));
  const [, , uid, gid] = line?.split(":") ?? [];
  if (uid === undefined || gid === undefined) {
    throw new EmbeddedError("PostgreSQL refuses to run as root and there is no account nobody to run it as");
  }
  return { uid: Number(uid), gid: Number(gid) };
};

/** Name of the account this process runs as; the database lets only it in. */
export const ownName = (): string => {
  try {
    return userInfo().username;
  } catch (cause) {
    throw new EmbeddedError(`uid ${process.getuid?.()} has no entry in /etc/passwd, which PostgreSQL needs`, {
      cause,
    });
  }
};

/** Whether the account can reach this directory: every parent of it lets others pass. */
export const canReach = (account: Account | null, dir: string): boolean =>
  account === null ||
  spawnSync("/bin/sh", ["-c", 'cd "$1"', "sh", dir], { ...account, cwd: "/" }).status === 0;
