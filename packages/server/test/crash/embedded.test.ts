import { existsSync, readFileSync } from "node:fs";
import { chmod, mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type Simulator, startSimulator } from "@mini-chat/simulator";
import { afterEach, beforeEach, expect, test } from "vitest";
import { startEmbedded } from "../../src/db/embedded.ts";
import { callApi } from "../support/app.ts";
import { type ServerProcess, startServerProcess } from "../support/process.ts";
import { newChat, send, turnStatus } from "./support.ts";

let home: string;
let dataDir: string;
let simulator: Simulator;
let over: AbortController;
let started: Promise<ServerProcess>[];
beforeEach(async () => {
  home = await mkdtemp(join(tmpdir(), "mini-chat-crash-embedded-"));
  // As root the database runs as another account, which has to pass.
  await chmod(home, 0o755);
  dataDir = join(home, "data");
  simulator = await startSimulator();
  over = new AbortController();
  started = [];
});
afterEach(async () => {
  over.abort();
  const servers = await Promise.allSettled(started);
  await Promise.all(servers.map((one) => (one.status === "fulfilled" ? one.value.kill() : undefined)));
  // Whatever is left running on the directory is adopted and stopped.
  if (existsSync(join(dataDir, "cluster"))) await (await startEmbedded({ dataDir })).stop();
  await simulator.close();
  await rm(home, { recursive: true, force: true });
});

const start = (): Promise<ServerProcess> => {
  const server = startServerProcess({
    databaseUrl: "postgresql://not-used/",
    simulatorPort: simulator.port,
    config: { database: { mode: "embedded", data_dir: dataDir, migrations: "auto" } },
    signal: over.signal,
  });
  started.push(server);
  return server;
};

const pidFile = (): string => join(dataDir, "cluster", "postmaster.pid");
const databasePid = (): number => Number.parseInt(readFileSync(pidFile(), "utf8"), 10);
const lives = (pid: number): boolean => existsSync(`/proc/${pid}/exe`) || existsSync(`/proc/${pid}/cwd`);

/** Until its parent has asked for its end, a dead process holds its id, and PostgreSQL takes it for alive. */
const isKnown = (pid: number): boolean => existsSync(`/proc/${pid}`);

test("kill -9 loses nothing: the next start has the same data, and a clean stop leaves no database", async () => {
  const first = await start();
  const chatId = await newChat(first);
  const requestId = "5b1a7e2c-0000-4000-8000-000000000001";
  simulator.enqueue({ events: [{ text: "kept" }] });
  await (await send(first, chatId, { requestId })).until("done");
  const pid = databasePid();
  await first.kill();
  expect(lives(pid)).toBe(true);

  const second = await start();
  expect(databasePid()).toBe(pid);
  expect(await turnStatus(second, chatId, requestId)).toMatchObject({ state: "done" });
  const { body } = await callApi(`${second.base}/chats/${chatId}/messages`, "GET");
  expect(body.items).toMatchObject([{ content: "hello" }, { content: "kept" }]);
  const again = await (await send(second, chatId)).rest();
  expect(again.at(-1)?.event).toBe("done");

  expect(await second.stop()).toBe(0);
  expect(existsSync(pidFile())).toBe(false);
  expect(lives(pid)).toBe(false);
});

test("kill -9 of both, as when the machine goes down: what was committed is there", async () => {
  const first = await start();
  const chatId = await newChat(first);
  await (await send(first, chatId)).until("done");
  const pid = databasePid();
  await first.kill();
  process.kill(pid, "SIGKILL");
  await expect.poll(() => isKnown(pid), { timeout: 20_000 }).toBe(false);

  const second = await start();
  expect(databasePid()).not.toBe(pid);
  const { body } = await callApi(`${second.base}/chats/${chatId}/messages`, "GET");
  expect(body.items).toHaveLength(2);
});

test("a second signal leaves no database behind either", async () => {
  const server = await start();
  const chatId = await newChat(server);
  simulator.enqueue({ events: [{ text: "x" }], hang_after: 1 });
  await (await send(server, chatId)).until("delta");
  const pid = databasePid();
  expect(await server.insist()).toBe(1);
  await expect.poll(() => lives(pid), { timeout: 10_000 }).toBe(false);
});
