import { spawnSync } from "node:child_process";
import { closeSync, ftruncateSync, openSync, readFileSync, writeSync } from "node:fs";
import { EmbeddedError } from "./embedded-account.ts";

export interface DirectoryLock {
  release(): void;
}

/**
 * Locks the data directory for this process, or throws `EmbeddedError` at once when another process
 * has it. The kernel frees the lock with the process, however it ends: a lock belongs to the open
 * file, so the one `flock` takes on our descriptor stays with us after that command has ended. Node
 * has no call for it, and a file with a process id cannot be trusted across containers.
 */
export const lockDirectory = (lockFile: string): DirectoryLock => {
  // Descriptors of Node close on exec, so the database never inherits the lock.
  const file = openSync(lockFile, "a+", 0o600);
  const { status, error } = spawnSync("flock", ["--exclusive", "--nonblock", "3"], {
    stdio: ["ignore", "ignore", "ignore", file],
  });
  if (status !== 0) {
    closeSync(file);
    if (error !== undefined) {
      throw new EmbeddedError("the embedded database needs the flock command (util-linux)", { cause: error });
    }
    const holder = readFileSync(lockFile, "utf8").trim();
    throw new EmbeddedError(`the data directory is in use by process ${holder || "?"} (${lockFile})`);
  }
  ftruncateSync(file);
  writeSync(file, `${process.pid}\n`);
  return { release: () => closeSync(file) };
};
