import { randomUUID } from "node:crypto";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { eventually } from "../support/app.ts";
import type { ServerProcess } from "../support/process.ts";
import { type DatabaseProxy, startDatabaseProxy } from "../support/proxy.ts";
import type { OpenedStream } from "../support/stream.ts";
import { mutate, type Op, turnsOf } from "../turns/mutation-support.ts";
import {
  ageDeadProcesses,
  createGround,
  found,
  type Ground,
  holdLock,
  newChat,
  send,
  turnStatus,
  waitingForLocks,
} from "./support.ts";
import { trapMessages } from "./trap.ts";

/** turns.md §13, §23.20 where a turn is replaced or deleted: the old turn or its successor, never half of both. */

let ground: Ground;
let proxies: DatabaseProxy[];
let chatId: string;
let requestId: string;
beforeEach(async () => {
  ground = await createGround();
  proxies = [];
  requestId = randomUUID();
});
afterEach(async () => {
  await Promise.all(proxies.map((proxy) => proxy.close()));
  await ground.clear();
});

/** A server with a chat whose only turn is answered. */
const startServing = async (databaseUrl = ground.databaseUrl): Promise<ServerProcess> => {
  const server = await ground.start({ databaseUrl });
  chatId = await newChat(server);
  await (await send(server, chatId, { requestId })).rest();
  return server;
};

const throughProxy = async (): Promise<DatabaseProxy> => {
  const proxy = await startDatabaseProxy(ground.databaseUrl);
  proxies.push(proxy);
  return proxy;
};

const restarted = async (): Promise<ServerProcess> => {
  await ageDeadProcesses(ground.db);
  return ground.start();
};

/** The mutation left no trace, and may be asked for again. */
const expectUntouched = async (op: Op): Promise<void> => {
  const next = await restarted();
  expect(await turnsOf(ground, chatId)).toMatchObject([{ requestId, deleted: false, replacedBy: null }]);
  expect(await liveMessages()).toEqual([
    { requestId, role: "user" },
    { requestId, role: "assistant" },
  ]);
  const { stored, due, events } = await ground.books();
  expect(events).toHaveLength(1);
  expect(stored).toEqual(due);
  const again = await mutate(next, op, { chatId, requestId });
  expect(again.status).toBe(op === "delete" ? 204 : 200);
  await again.rest();
};

const liveMessages = async () =>
  (
    await ground.db.query(
      `select request_id as "requestId", role
       from messages
       where chat_id = $1 and deleted_at is null
       order by created_at, id`,
      [chatId],
    )
  ).rows;

/** The successor was committed and lost its process: the watchdog ends it, estimated, once. */
const expectOrphanedSuccessor = async (): Promise<void> => {
  const next = await restarted();
  const [old, successor] = await turnsOf(ground, chatId);
  expect(old).toMatchObject({ requestId, deleted: true, replacedBy: successor?.requestId });
  const newId = successor?.requestId ?? "";
  await eventually(async () => (await turnStatus(next, chatId, newId))["state"] !== "running");
  expect(await turnStatus(next, chatId, newId)).toMatchObject({
    state: "error",
    error_code: "orphan_timeout",
  });
  expect(await turnStatus(next, chatId, requestId)).toMatchObject({ state: "done" });
  expect(await liveMessages()).toEqual([{ requestId: newId, role: "user" }]);
  const { stored, due, events } = await ground.books();
  expect(events.map((event) => event.request_id).toSorted()).toEqual([requestId, newId].toSorted());
  expect(stored).toEqual(due);
  // The latest turn is the failed successor: the old one cannot be changed any more, the new one can.
  expect((await mutate(next, "retry", { chatId, requestId })).status).toBe(409);
  const again = await mutate(next, "retry", { chatId, requestId: newId });
  expect((await again.rest()).at(-1)?.event).toBe("done");
};

describe.each(["retry", "edit"] as const)("kill -9 during a %s", (op) => {
  const begin = (server: ServerProcess): Promise<OpenedStream> => mutate(server, op, { chatId, requestId });

  test("before its transaction commits: the old turn stands", async () => {
    const server = await startServing();
    const open = await trapMessages(ground, "user");
    const sent = begin(server);
    sent.catch(() => {});
    await waitingForLocks(ground.db);
    // Everything is written and COMMIT is under way; the connection dies with the process.
    const { rows } = await ground.db.query<{ pid: number }>(
      "select pid from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'",
    );
    await server.kill();
    await ground.db.query("select pg_terminate_backend($1)", [rows[0]?.pid]);
    await open();
    await expect(sent).rejects.toThrow();
    await expectUntouched(op);
  });

  test("while it waits for the quota rows: the old turn stands", async () => {
    const server = await startServing();
    const release = await holdLock(ground.databaseUrl, "select from quota_usage for update");
    const sent = begin(server);
    sent.catch(() => {});
    await waitingForLocks(ground.db);
    await server.kill();
    await release();
    await expect(sent).rejects.toThrow();
    await expectUntouched(op);
  });

  test("after its transaction committed, before the headers: the successor is an orphan", async () => {
    const proxy = await throughProxy();
    const server = await startServing(proxy.url);
    const open = await trapMessages(ground, "user");
    const sent = begin(server);
    sent.catch(() => {});
    await waitingForLocks(ground.db);
    proxy.holdAnswers();
    await open();
    await found(ground.db, "select from chat_turns where state = 'running' and reserve_tokens is not null");
    await server.kill();
    await expect(sent).rejects.toThrow();
    await expectOrphanedSuccessor();
  });

  test("in the middle of the stream: the successor is an orphan", async () => {
    const server = await startServing();
    ground.simulator.enqueue({ events: [{ text: "half an" }, { wait_for: "rest" }, { text: " answer" }] });
    const stream = await begin(server);
    await stream.until("delta");
    await server.kill();
    await expectOrphanedSuccessor();
  });

  test("after the end of the successor: both are charged, once", async () => {
    const server = await startServing();
    const stream = await begin(server);
    await stream.until("done");
    await server.kill();
    await restarted();
    const { stored, due, events } = await ground.books();
    expect(events).toHaveLength(2);
    expect(stored).toEqual(due);
    expect(await turnsOf(ground, chatId)).toMatchObject([
      { deleted: true },
      { state: "completed", deleted: false },
    ]);
  });
});

describe("kill -9 during a delete", () => {
  test("before it commits the turn stands", async () => {
    const server = await startServing();
    const release = await holdLock(ground.databaseUrl, "select from messages for update");
    const sent = mutate(server, "delete", { chatId, requestId });
    sent.catch(() => {});
    await waitingForLocks(ground.db);
    await server.kill();
    await release();
    await expect(sent).rejects.toThrow();
    await expectUntouched("delete");
  });

  test("after it committed the turn is gone, whether or not the client was told", async () => {
    const server = await startServing();
    expect((await mutate(server, "delete", { chatId, requestId })).status).toBe(204);
    await server.kill();
    const next = await restarted();
    expect(await liveMessages()).toEqual([]);
    expect((await mutate(next, "delete", { chatId, requestId })).status).toBe(409);
    const { stored, due, events } = await ground.books();
    expect(events).toHaveLength(1);
    expect(stored).toEqual(due);
  });
});
