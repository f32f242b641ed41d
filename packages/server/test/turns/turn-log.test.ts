import { randomUUID } from "node:crypto";
import fc from "fast-check";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { Actor } from "../../src/auth/actor.ts";
import { inTransaction } from "../../src/db/tx.ts";
import { noLogger } from "../../src/telemetry/log.ts";
import type { StreamEvent } from "../../src/turns/grammar.ts";
import { TurnLog, throughLog } from "../../src/turns/log.ts";
import {
  appendEvents,
  appendWithin,
  findLoggedEvent,
  findTurnForResume,
  type LoggedEvent,
  readEventsAfter,
  readLog,
} from "../../src/turns/log-store.ts";
import { insertRunningTurn, newActor, newChat } from "../quota/support.ts";
import { createTestDatabase, type TestDatabase } from "../support/database.ts";

let database: TestDatabase;
let actor: Actor;
beforeAll(async () => {
  // One connection, so that a statement meets what the one before it left behind.
  database = await createTestDatabase({ maxConnections: 1 });
  actor = newActor();
});
afterAll(() => database.drop());

const newTurn = async () => {
  const chatId = await newChat(database.db, actor);
  const id = randomUUID();
  await insertRunningTurn(database.db, actor, { id, chatId });
  return { id, tenantId: actor.tenantId, chatId };
};

const text = (content: string): StreamEvent => ({ event: "delta", data: { type: "text", content } });
const reasoning = (content: string): StreamEvent => ({
  event: "delta",
  data: { type: "reasoning", content },
});
const searching: StreamEvent = { event: "tool", data: { phase: "start", name: "web_search", details: {} } };

describe("an append", () => {
  test("waits for no disk, and leaves the next transaction of its connection waiting for one", async () => {
    const { db } = database;
    const turn = await newTurn();
    await db.query("set synchronous_commit = on");
    await appendEvents(db, turn, [{ ...text("a"), seq: 1 }]);
    expect((await db.query("show synchronous_commit")).rows).toEqual([{ synchronous_commit: "on" }]);
  });

  test("takes whatever a provider may say", async () => {
    const turn = await newTurn();
    const details = {
      output: 'nul \0, half \ud800, whole \u{1f600}, said \\u0000 and "\\ud800"',
      more: ["\\"],
    };
    await appendEvents(database.db, turn, [
      { event: "tool", data: { phase: "done", name: "code_interpreter", details }, seq: 1 },
    ]);
    const found = await readEventsAfter(database.db, turn, 0, 10);
    expect(found?.events[0]?.data).toMatchObject({
      details: { ...details, output: details.output.replace("\0", "").toWellFormed() },
    });
  });

  test("behind the end of the log is refused as a whole", async () => {
    const turn = await newTurn();
    const end = { event: "error", data: { code: "cancelled", message: "" }, seq: 1 } as const;
    await inTransaction(database.db, (tx) => appendWithin(tx, turn, [end], "watchdog"));
    const late: LoggedEvent[] = [1, 2].map((seq) => ({ ...text("late"), seq }));
    await expect(appendEvents(database.db, turn, late)).rejects.toMatchObject({ code: "23505" });
    expect((await readEventsAfter(database.db, turn, -1, 10))?.events).toEqual([end]);
  });
});

test("another tenant finds nothing of a log", async () => {
  const { db } = database;
  const turn = await newTurn();
  await appendEvents(db, turn, [{ ...text("a"), seq: 0 }]);
  const other = { ...turn, tenantId: newActor().tenantId };
  expect(await readEventsAfter(db, other, -1, 10)).toBeNull();
  expect(await readLog(db, other)).toBeNull();
  expect(await findLoggedEvent(db, other, 0)).toBeNull();
  const { rows } = await db.query<{ request_id: string }>("select request_id from chat_turns where id = $1", [
    turn.id,
  ]);
  const requestId = rows[0]?.request_id ?? randomUUID();
  expect(await findTurnForResume(db, other.tenantId, turn.chatId, requestId)).toBeNull();
  expect(await findTurnForResume(db, turn.tenantId, turn.chatId, requestId)).not.toBeNull();
});

/** What of a stream's meaning must be the same on both sides of a log. */
const meaningOf = (events: readonly StreamEvent[]): unknown[] => {
  const merged: { of: string; content: string }[] = [];
  for (const event of events) {
    const of = event.event === "delta" ? event.data.type : event.event;
    const content = event.event === "delta" ? event.data.content : "";
    const last = merged.at(-1);
    if (event.event === "delta" && last?.of === of) last.content += content;
    else merged.push({ of, content });
  }
  return merged.map(({ of, content }) => [of, content.toWellFormed()]);
};

// What comes from a provider has no U+0000 any more (see `generate`).
const anyText = fc.string({ unit: "binary", maxLength: 900 }).map((one) => `${one.replaceAll("\0", "")}.`);

const anyEvent = fc.oneof(
  { weight: 6, arbitrary: anyText.map(text) },
  { weight: 2, arbitrary: fc.constantFrom("\ud83d", "\ude00", "a\ud83d").map(text) },
  { weight: 1, arbitrary: anyText.map(reasoning) },
  { weight: 1, arbitrary: fc.constant(searching) },
);

test("whatever goes through a log comes out in order, in places without a gap, as it stands in the log", async () => {
  await fc.assert(
    fc.asyncProperty(fc.array(fc.array(anyEvent, { maxLength: 8 }), { maxLength: 8 }), async (batches) => {
      const turn = await newTurn();
      const log = new TurnLog({ db: database.db, logger: noLogger, appended: () => {} }, turn);
      const shown: LoggedEvent[] = [];
      const source = (async function* () {
        yield* batches;
        return "ended";
      })();
      const passing = throughLog(log, source);
      for (;;) {
        const { done, value } = await passing.next();
        if (done === true) {
          expect(value).toBe("ended");
          break;
        }
        for (const event of value) shown.push({ ...event, seq: event.seq ?? -1 });
      }
      const tail = await log.close();
      shown.push(...log.take());
      const logged = (await readEventsAfter(database.db, turn, 0, 1_000))?.events ?? [];
      expect(shown).toEqual(logged);
      const all = [...shown, ...tail.events];
      expect(all.map(({ seq }) => seq)).toEqual(all.map((_, at) => at + 1));
      expect(tail.nextSeq).toBe(all.length + 1);
      expect(meaningOf(all)).toEqual(meaningOf(batches.flat()));
    }),
    { numRuns: 60 },
  );
});
