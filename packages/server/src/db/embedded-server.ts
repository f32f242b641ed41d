import { type ChildProcess, spawn } from "node:child_process";
import { closeSync, existsSync, openSync, readFileSync, statSync, truncateSync } from "node:fs";
import { chmod, chown, mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { sleep } from "../lib/sleep.ts";
import { EmbeddedError } from "./embedded-account.ts";
import type { Cluster } from "./embedded-cluster.ts";

/** A server that accepts connections. */
export interface RunningServer {
  readonly pid: number;
  /** Directory of its socket. */
  readonly socketDir: string;
  readonly adopted: boolean;
}

/** Settings by name, as PostgreSQL spells them. */
export type Settings = Readonly<Record<string, string>>;

const defaults: Settings = {
  cluster_name: "mini-chat",
  listen_addresses: "",
  unix_socket_permissions: "0700",
  timezone: "UTC",
  log_timezone: "UTC",
  jit: "off",
  // Statements lose races by design and their text may hold what users wrote: only fatal errors are logged.
  log_min_messages: "fatal",
  log_min_error_statement: "panic",
  log_checkpoints: "off",
};

/** Longest directory in which `/.s.PGSQL.5432` still fits a socket address (108 bytes). */
const maxSocketDir = 92;

interface LockFile {
  readonly pid: number;
  readonly socketDir: string;
  readonly ready: boolean;
}

/** What the server says of itself in `postmaster.pid`; null when there is none, or half of one. */
const readLockFile = (dir: string): LockFile | null => {
  let text: string;
  try {
    text = readFileSync(join(dir, "postmaster.pid"), "utf8");
  } catch {
    return null;
  }
  const lines = text.split("\n");
  const pid = Number(lines[0]);
  return Number.isInteger(pid) && pid > 0
    ? { pid, socketDir: lines[4] ?? "", ready: lines[7]?.trim() === "ready" }
    : null;
};

/** Arguments of the living process; null when there is none. World-readable, unlike its directory. */
const argumentsOf = (pid: number): string[] | null => {
  try {
    const line = readFileSync(`/proc/${pid}/cmdline`, "utf8");
    return line === "" ? null : line.split("\0").slice(0, -1);
  } catch {
    return null;
  }
};

/** Whether this process is a server of the cluster: a process id alone may have been given away again. */
export const isServerOf = (pid: number, dir: string): boolean => {
  const args = argumentsOf(pid);
  return args !== null && args[1] === "-D" && args[2] === dir;
};

/** Directory of the socket of the server that runs on this cluster; null when none does. */
export const socketOf = (dir: string): string | null => {
  const found = readLockFile(dir);
  return found?.ready === true && isServerOf(found.pid, dir) ? found.socketDir : null;
};

const commandLine = (cluster: Cluster, socketDir: string, settings: Settings): string[] => [
  cluster.binaries.postgres,
  ...["-D", cluster.dir],
  ...Object.entries({ ...defaults, ...settings, unix_socket_directories: socketDir }).flatMap(
    ([name, value]) => ["-c", `${name}=${value}`],
  ),
];

/**
 * The cluster's server: one a killed process left behind, if it was started with the same program and
 * settings, else a new one, listening in `socketDir` if given. The caller holds the lock of the data
 * directory, so a server found here has no other owner.
 */
export const runServer = async (
  cluster: Cluster,
  settings: Settings,
  socketDir?: string,
): Promise<RunningServer> => {
  const found = readLockFile(cluster.dir);
  if (found !== null && isServerOf(found.pid, cluster.dir)) {
    const wanted = commandLine(cluster, found.socketDir, settings);
    if (found.ready && argumentsOf(found.pid)?.join("\0") === wanted.join("\0")) {
      // It may have been started for another account; access is read again on this signal.
      process.kill(found.pid, "SIGHUP");
      return { pid: found.pid, socketDir: found.socketDir, adopted: true };
    }
    await stopServer(found.pid, cluster.dir);
  } else if (found !== null && existsSync(`/proc/${found.pid}`)) {
    // The id belongs to a stranger now, or to a dead server nobody reaped: PostgreSQL would refuse to start.
    // What may be left of that server is told by the shared memory it holds, not by the file.
    await rm(join(cluster.dir, "postmaster.pid"), { force: true });
  }
  return startServer(cluster, settings, socketDir ?? (await socketDirectory(cluster)));
};

const startServer = async (
  cluster: Cluster,
  settings: Settings,
  socketDir: string,
): Promise<RunningServer> => {
  const { dir, account, binaries } = cluster;
  const [command = "", ...args] = commandLine(cluster, socketDir, settings);
  const logFile = join(dirname(dir), "server.log");
  const log = openSync(logFile, "a", 0o600);
  if ((statSync(logFile).size ?? 0) > 1_048_576) truncateSync(logFile);
  const logStart = statSync(logFile).size;
  // Detached: an interrupt from the terminal must reach us, not the database we still have to drain into.
  const child = spawn(command, args, {
    ...account,
    cwd: "/",
    env: { ...binaries.env },
    detached: true,
    stdio: ["ignore", log, log],
  });
  closeSync(log);
  child.unref();
  const pid = await started(child, dir, () => readFileSync(logFile, "utf8").slice(logStart));
  return { pid, socketDir, adopted: false };
};

/** Beside the files where the path is short enough, else in a private directory. */
const socketDirectory = async ({ dir, account }: Cluster): Promise<string> => {
  if (Buffer.byteLength(dir) <= maxSocketDir && !dir.includes(",")) return dir;
  const made = await mkdtemp(join(tmpdir(), "mini-chat-"));
  await chmod(made, 0o700);
  if (account !== null) await chown(made, account.uid, account.gid);
  return made;
};

const startTimeoutMs = 60_000;

/** Waits until the server says it is ready: after a crash it recovers first, hence the long limit. */
const started = async (child: ChildProcess, dir: string, log: () => string): Promise<number> => {
  let ended: string | null = null;
  child.on("error", (error) => {
    ended = error.message;
  });
  child.on("exit", (code, signal) => {
    ended ??= `exit ${code ?? signal}`;
  });
  const deadline = performance.now() + startTimeoutMs;
  while (performance.now() < deadline) {
    if (ended !== null) throw new EmbeddedError(`PostgreSQL did not start (${ended}): ${log().slice(-2000)}`);
    const file = readLockFile(dir);
    if (child.pid !== undefined && file?.pid === child.pid && file.ready) return child.pid;
    await sleep(5);
  }
  if (child.pid !== undefined) process.kill(child.pid, "SIGQUIT");
  throw new EmbeddedError(`PostgreSQL was not ready after ${startTimeoutMs / 1000} s: ${log().slice(-2000)}`);
};

/**
 * Fast shutdown: sessions are ended, everything is written, so the next start recovers nothing. A
 * server that is not done after 30 s is stopped at once and recovers later.
 */
export const stopServer = async (pid: number, dir: string): Promise<void> => {
  const socketDir = readLockFile(dir)?.socketDir;
  for (const [signal, waitMs] of [
    ["SIGINT", 30_000],
    ["SIGQUIT", 10_000],
    ["SIGKILL", 5_000],
  ] as const) {
    if (!isServerOf(pid, dir)) break;
    process.kill(pid, signal);
    const deadline = performance.now() + waitMs;
    while (isServerOf(pid, dir) && performance.now() < deadline) await sleep(5);
  }
  if (socketDir !== undefined && socketDir !== "" && socketDir !== dir) {
    await rm(socketDir, { recursive: true, force: true });
  }
};
