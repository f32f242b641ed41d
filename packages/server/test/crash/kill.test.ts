import { randomUUID } from "node:crypto";
import pg from "pg";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { eventually } from "../support/app.ts";
import { textOf } from "../support/stream.ts";
import {
  ageDeadOwners,
  createGround,
  expireLeases,
  type Ground,
  newChat,
  send,
  settledBooks,
  turnStatus,
} from "./support.ts";

let ground: Ground;
beforeEach(async () => {
  ground = await createGround();
});
afterEach(async () => {
  await ground.clear();
});

/** A transaction of the test's own that holds row locks until it is released. */
const holdLock = async (statement: string, values: unknown[] = []): Promise<() => Promise<void>> => {
  const client = new pg.Client({ connectionString: ground.database.url });
  await client.connect();
  await client.query("begin");
  await client.query(statement, values);
  return async () => {
    await client.query("rollback");
    await client.end();
  };
};

/** Resolves as soon as a statement of the server waits for a lock. */
const someoneWaits = (): Promise<void> =>
  eventually(async () => {
    const { rowCount } = await ground.database.db.query(
      "select from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'",
    );
    return rowCount > 0;
  });

const countTurns = async (): Promise<number> =>
  (await ground.database.db.query("select from chat_turns")).rowCount;

/** The recovery of every row whose turn was left running: the watchdog ends it, estimated, once. */
const expectOrphanTimeout = async (chatId: string, requestId: string): Promise<void> => {
  await ageDeadOwners(ground);
  const next = await ground.start();
  await eventually(async () => (await turnStatus(next, chatId, requestId))["state"] !== "running");
  expect(await turnStatus(next, chatId, requestId)).toMatchObject({
    state: "error",
    error_code: "orphan_timeout",
  });
  const books = await settledBooks(ground);
  expect(books).toMatchObject({ reserved: 0n, events: 1 });
  expect(books.spent).toBeGreaterThan(0n);
  expect(books.published).toBe(books.spent);
  expect(ground.usage()[0]?.event).toMatchObject({
    request_id: requestId,
    terminal_state: "failed",
    billing_outcome: "aborted",
    settlement_method: "estimated",
    error_code: "orphan_timeout",
    usage: null,
  });
  const again = await send(next, chatId, requestId);
  expect(again.status).toBe(409);
  const fresh = await send(next, chatId);
  expect((await fresh.rest()).at(-1)?.event).toBe("done");
};

describe("kill -9 at each row of turns.md §13 (§23.20)", () => {
  test("before transaction 1 commits: nothing is left, the same request may come again", async () => {
    const first = await ground.start();
    const chatId = await newChat(first);
    const requestId = randomUUID();
    const release = await holdLock("select from chats where id = $1 for update", [chatId]);
    const sent = send(first, chatId, requestId);
    sent.catch(() => {});
    await someoneWaits();
    await first.kill();
    await release();
    await expect(sent).rejects.toThrow();
    const next = await ground.start();
    expect(await countTurns()).toBe(0);
    const stream = await send(next, chatId, requestId);
    expect((await stream.rest()).at(-1)?.event).toBe("done");
    expect(await settledBooks(ground)).toMatchObject({ reserved: 0n, events: 1 });
  });

  test("after transaction 1, before the provider answers", async () => {
    const first = await ground.start();
    const chatId = await newChat(first);
    const requestId = randomUUID();
    ground.simulator.enqueue({ gate: "never" });
    const stream = await send(first, chatId, requestId);
    expect((await stream.next())?.event).toBe("stream_started");
    await ground.simulator.arrived("never");
    await first.kill();
    await expectOrphanTimeout(chatId, requestId);
  });

  test("in the middle of the stream: the streamed text is lost, the question stays", async () => {
    const first = await ground.start();
    const chatId = await newChat(first);
    const requestId = randomUUID();
    ground.simulator.enqueue({ events: [{ text: "half an" }, { wait_for: "rest" }, { text: " answer" }] });
    const stream = await send(first, chatId, requestId);
    await stream.until("delta");
    await first.kill();
    await expectOrphanTimeout(chatId, requestId);
    const { rows } = await ground.database.db.query("select role from messages where request_id = $1", [
      requestId,
    ]);
    expect(rows).toEqual([{ role: "user" }]);
  });

  test("provider finished, transaction 2 not committed", async () => {
    const first = await ground.start();
    const chatId = await newChat(first);
    const requestId = randomUUID();
    ground.simulator.enqueue({ events: [{ text: "all" }, { wait_for: "end" }] });
    const stream = await send(first, chatId, requestId);
    await stream.until("delta");
    const release = await holdLock("select from quota_usage for update");
    ground.simulator.open("end");
    await someoneWaits();
    await first.kill();
    await release();
    await expectOrphanTimeout(chatId, requestId);
  });

  test("transaction 2 committed, the terminal event unsent: done, and replay plays it", async () => {
    const first = await ground.start();
    const chatId = await newChat(first);
    const requestId = randomUUID();
    ground.simulator.enqueue({ events: [{ text: "all of it" }, { wait_for: "end" }] });
    const stream = await send(first, chatId, requestId);
    await stream.until("delta");
    // The client's socket is not read any more, and the kill follows the commit at once: whether the last
    // event left the process or not, nobody has seen it.
    stream.pause();
    const { db } = ground.database;
    ground.simulator.open("end");
    await eventually(
      async () => (await db.query("select from chat_turns where state = 'completed'")).rowCount === 1,
    );
    await first.kill();
    await expireLeases(ground);
    const next = await ground.start();
    expect(await turnStatus(next, chatId, requestId)).toMatchObject({ state: "done" });
    const replay = await (await send(next, chatId, requestId)).rest();
    expect(replay[0]).toMatchObject({ event: "stream_started", data: { is_new_turn: false } });
    expect(textOf(replay)).toBe("all of it");
    const books = await settledBooks(ground);
    expect(books).toMatchObject({ reserved: 0n, events: 1 });
    expect(books.published).toBe(books.spent);
  });

  test("the watchdog dies in transaction 2: the next scan finds the turn", async () => {
    const first = await ground.start();
    const chatId = await newChat(first);
    const requestId = randomUUID();
    ground.simulator.enqueue({ events: [{ text: "x" }], hang_after: 1 });
    const stream = await send(first, chatId, requestId);
    await stream.until("delta");
    await first.kill();
    const release = await holdLock("select from quota_usage for update");
    await ageDeadOwners(ground);
    const watchdog = await ground.start();
    await someoneWaits();
    await watchdog.kill();
    await release();
    await expectOrphanTimeout(chatId, requestId);
  });
});
