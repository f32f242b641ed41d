// A throwaway PostgreSQL from the system's packages, to run database tests on a second version.
import { spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { chmodSync, chownSync, existsSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";

const binaries = "/usr/lib/postgresql/15/bin";

/** Whether Debian's PostgreSQL 15, the oldest version promised, is on this machine. */
export const hasPostgres15 = () =>
  existsSync(join(binaries, "initdb")) && existsSync(join(binaries, "postgres"));

/** PostgreSQL refuses uid 0; root hands over to `nobody`. */
const account = () => {
  if (process.getuid() !== 0) return {};
  const fields = readFileSync("/etc/passwd", "utf8")
    .split("\n")
    .map((line) => line.split(":"))
    .find(([name]) => name === "nobody");
  if (fields === undefined) throw new Error("no account `nobody` to run PostgreSQL as");
  return { uid: Number(fields[2]), gid: Number(fields[3]) };
};

const freePort = async () => {
  const server = createServer().listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address();
  server.close();
  await once(server, "close");
  return port;
};

const initialise = (dir, owner) => {
  const options = [
    "-D",
    join(dir, "data"),
    "-U",
    "postgres",
    "-A",
    "trust",
    "-E",
    "UTF8",
    "--locale=C",
    "-N",
  ];
  const result = spawnSync(join(binaries, "initdb"), options, { ...owner, cwd: dir, encoding: "utf8" });
  if (result.status !== 0) throw new Error(`initdb failed: ${result.stderr || result.error}`);
};

const ready = (port) =>
  spawnSync(join(binaries, "pg_isready"), ["-q", "-h", "127.0.0.1", "-p", String(port)]).status === 0;

const waitUntilReady = async (port, child) => {
  for (let attempt = 0; attempt < 300; attempt += 1) {
    if (child.exitCode !== null) throw new Error(`postgres ended with exit code ${child.exitCode}`);
    if (ready(port)) return;
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
  throw new Error("postgres did not become ready within 30 s");
};

/**
 * Starts a cluster on a free loopback port, without durability. `url` is that of a superuser; `stop()`
 * ends the server and deletes its files.
 */
export const startPostgres15 = async () => {
  const owner = account();
  const dir = mkdtempSync(join(tmpdir(), "mini-chat-pg15-"));
  if (owner.uid !== undefined) chownSync(dir, owner.uid, owner.gid);
  chmodSync(dir, 0o700);
  let child;
  const stop = async () => {
    if (child !== undefined && child.exitCode === null && child.signalCode === null) {
      const ended = once(child, "exit");
      child.kill("SIGINT");
      await ended;
    }
    rmSync(dir, { recursive: true, force: true });
  };
  try {
    initialise(dir, owner);
    const port = await freePort();
    const settings = ["fsync=off", "synchronous_commit=off", "full_page_writes=off", "max_connections=200"];
    child = spawn(
      join(binaries, "postgres"),
      [
        "-D",
        join(dir, "data"),
        "-k",
        dir,
        "-h",
        "127.0.0.1",
        "-p",
        String(port),
        ...settings.flatMap((s) => ["-c", s]),
      ],
      { ...owner, cwd: dir, stdio: "ignore" },
    );
    await waitUntilReady(port, child);
    return { url: `postgres://postgres@127.0.0.1:${port}/postgres`, stop };
  } catch (error) {
    await stop();
    throw error;
  }
};
