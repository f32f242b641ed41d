import { randomUUID } from "node:crypto";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { eventually } from "../support/app.ts";
import type { ServerProcess } from "../support/process.ts";
import { type DatabaseProxy, startDatabaseProxy } from "../support/proxy.ts";
import { textOf } from "../support/stream.ts";
import { startReceiver } from "./receiver.ts";
import {
  ageDeadProcesses,
  createGround,
  expectOneEvent,
  found,
  type Ground,
  holdLock,
  newChat,
  send,
  turnStatus,
  waitingForLocks,
} from "./support.ts";
import { trapMessages } from "./trap.ts";

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

/** A server with a chat. */
const startServing = async (databaseUrl = ground.databaseUrl): Promise<ServerProcess> => {
  const server = await ground.start({ databaseUrl });
  chatId = await newChat(server);
  return server;
};

const throughProxy = async (): Promise<DatabaseProxy> => {
  const proxy = await startDatabaseProxy(ground.databaseUrl);
  proxies.push(proxy);
  return proxy;
};

const orphaned = {
  terminal_state: "failed",
  billing_outcome: "aborted",
  settlement_method: "estimated",
  error_code: "orphan_timeout",
  usage: null,
};

/** The recovery of every row whose turn was left running: the watchdog ends it, estimated, once. */
const expectOrphanTimeout = async (): Promise<void> => {
  await ageDeadProcesses(ground.db);
  const next = await ground.start();
  await eventually(async () => (await turnStatus(next, chatId, requestId))["state"] !== "running");
  expect(await turnStatus(next, chatId, requestId)).toMatchObject({
    state: "error",
    error_code: "orphan_timeout",
  });
  await expectOneEvent(ground, { request_id: requestId, ...orphaned });
  const messages = await ground.db.query("select role from messages where request_id = $1", [requestId]);
  expect(messages.rows).toEqual([{ role: "user" }]);
  // The chat is free again, the request_id is not.
  expect((await send(next, chatId, { requestId })).status).toBe(409);
  const fresh = await send(next, chatId);
  expect((await fresh.rest()).at(-1)?.event).toBe("done");
};

/** The recovery of every row whose turn was committed: nobody has to do anything. */
const expectDone = async (text: string): Promise<void> => {
  const next = await ground.start();
  expect(await turnStatus(next, chatId, requestId)).toMatchObject({ state: "done" });
  const replay = await (await send(next, chatId, { requestId })).rest();
  expect(replay[0]).toMatchObject({ event: "stream_started", data: { is_new_turn: false } });
  expect(textOf(replay)).toBe(text);
  await ageDeadProcesses(ground.db);
  await expectOneEvent(ground, {
    request_id: requestId,
    terminal_state: "completed",
    settlement_method: "actual",
  });
};

describe("kill -9 at each row of turns.md §13 (§23.20)", () => {
  test("before transaction 1 commits: nothing is left, the same request may come again", async () => {
    const first = await startServing();
    const release = await holdLock(ground.databaseUrl, "select from chats where id = $1 for update", [
      chatId,
    ]);
    const sent = send(first, chatId, { requestId });
    sent.catch(() => {});
    await waitingForLocks(ground.db);
    await first.kill();
    await release();
    await expect(sent).rejects.toThrow();
    const next = await ground.start();
    for (const table of ["chat_turns", "messages", "quota_usage", "outbox_message"]) {
      expect((await ground.db.query(`select from ${table}`)).rowCount).toBe(0);
    }
    const stream = await send(next, chatId, { requestId });
    expect((await stream.rest()).at(-1)?.event).toBe("done");
    await expectOneEvent(ground, { request_id: requestId, terminal_state: "completed" });
  });

  test("after transaction 1, before the headers", async () => {
    const proxy = await throughProxy();
    const first = await startServing(proxy.url);
    const open = await trapMessages(ground, "user");
    const sent = send(first, chatId, { requestId });
    sent.catch(() => {});
    await waitingForLocks(ground.db);
    proxy.holdAnswers();
    await open();
    await found(ground.db, "select from chat_turns where state = 'running' and reserve_tokens is not null");
    await first.kill();
    await expect(sent).rejects.toThrow();
    await expectOrphanTimeout();
  });

  test("after the headers, before the provider answers", async () => {
    const first = await startServing();
    ground.simulator.enqueue({ gate: "never" });
    const stream = await send(first, chatId, { requestId });
    expect((await stream.next())?.event).toBe("stream_started");
    await ground.simulator.arrived("never");
    await first.kill();
    await expectOrphanTimeout();
  });

  test("in the middle of the stream: the streamed text is lost, the question stays", async () => {
    const first = await startServing();
    ground.simulator.enqueue({ events: [{ text: "half an" }, { wait_for: "rest" }, { text: " answer" }] });
    const stream = await send(first, chatId, { requestId });
    await stream.until("delta");
    await first.kill();
    await expectOrphanTimeout();
  });

  test("provider finished, transaction 2 not committed: the answer is lost", async () => {
    const first = await startServing();
    ground.simulator.enqueue({ events: [{ text: "all" }, { wait_for: "end" }] });
    const stream = await send(first, chatId, { requestId });
    await stream.until("delta");
    const release = await holdLock(ground.databaseUrl, "select from quota_usage for update");
    ground.simulator.open("end");
    await waitingForLocks(ground.db);
    await first.kill();
    await release();
    await expectOrphanTimeout();
  });

  test("transaction 2 committed, terminal event unsent: done by its status, and replay plays it", async () => {
    const proxy = await throughProxy();
    const first = await startServing(proxy.url);
    const open = await trapMessages(ground, "assistant");
    ground.simulator.enqueue({ events: [{ text: "all of it" }] });
    const stream = await send(first, chatId, { requestId });
    await waitingForLocks(ground.db);
    proxy.holdAnswers();
    await open();
    await found(ground.db, "select from chat_turns where state = 'completed'");
    await first.kill();
    expect((await stream.rest()).map(({ event }) => event)).toEqual(["stream_started", "delta"]);
    await expectDone("all of it");
  });

  test("after the terminal event nothing is pending", async () => {
    const first = await startServing();
    ground.simulator.enqueue({ events: [{ text: "all of it" }] });
    const stream = await send(first, chatId, { requestId });
    await stream.until("done");
    await first.kill();
    await expectDone("all of it");
  });

  test("the watchdog dies in transaction 2: the next scan finds the turn", async () => {
    const first = await startServing();
    ground.simulator.enqueue({ events: [{ text: "x" }], hang_after: 1 });
    const stream = await send(first, chatId, { requestId });
    await stream.until("delta");
    await first.kill();
    const release = await holdLock(ground.databaseUrl, "select from quota_usage for update");
    await ageDeadProcesses(ground.db);
    const watchdog = await ground.start();
    await waitingForLocks(ground.db);
    await watchdog.kill();
    await release();
    await expectOrphanTimeout();
  });

  test.each(["usage", "audit"] as const)(
    "an outbox worker dies while it delivers: the %s event comes again under the same key",
    async (queue) => {
      const receiver = await startReceiver();
      try {
        const config = { plugins: { [queue]: { type: "http", url: receiver.url } } };
        const first = await ground.start({ config });
        chatId = await newChat(first);
        const stream = await send(first, chatId, { requestId });
        await stream.until("done");
        await receiver.received(1);
        await first.kill();
        receiver.answer();
        await ageDeadProcesses(ground.db);
        await ground.start({ config });
        const [lost, delivered] = await receiver.received(2);
        expect(delivered).toEqual(lost);
        expect(delivered?.event).toMatchObject({ request_id: requestId });
        await eventually(async () => (await ground.db.query("select from outbox_message")).rowCount === 0);
        expect(await receiver.received(2)).toHaveLength(2);
      } finally {
        await receiver.close();
      }
    },
  );
});
