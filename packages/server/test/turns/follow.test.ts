import { randomUUID } from "node:crypto";
import { afterAll, beforeAll, expect, test } from "vitest";
import type { Actor } from "../../src/auth/actor.ts";
import type { Db } from "../../src/db/pool.ts";
import { inTransaction } from "../../src/db/tx.ts";
import type { SseWriter } from "../../src/http/sse.ts";
import { noLogger } from "../../src/telemetry/log.ts";
import { RunningTurns } from "../../src/turns/cancellation.ts";
import { followTurn } from "../../src/turns/follow.ts";
import { appendEvents, appendWithin } from "../../src/turns/log-store.ts";
import { LogReaders } from "../../src/turns/readers.ts";
import { insertRunningTurn, newActor, newChat } from "../quota/support.ts";
import { createTestDatabase, type TestDatabase } from "../support/database.ts";

let database: TestDatabase;
let actor: Actor;
beforeAll(async () => {
  database = await createTestDatabase();
  actor = newActor();
});
afterAll(() => database.drop());

/** A client that takes everything. */
const client = () => {
  let frames = "";
  const writer: SseWriter = {
    write: (more) => {
      frames += more;
      return true;
    },
    drained: async () => {},
    comment: () => {},
    closed: false,
    onClose: () => {},
    end: () => {},
  };
  return { writer, names: () => [...frames.matchAll(/^event: (.*)$/gm)].map(([, name]) => name) };
};

test("the reader of a process that stops is told of an end that comes while it looks", async () => {
  const chatId = await newChat(database.db, actor);
  const turn = { id: randomUUID(), tenantId: actor.tenantId, chatId };
  await insertRunningTurn(database.db, actor, { id: turn.id, chatId });
  await appendEvents(database.db, turn, [{ event: "delta", data: { type: "text", content: "a" }, seq: 1 }]);
  const running = new RunningTurns();
  running.add(turn.id, turn.tenantId);
  running.stopAll("server_shutdown");
  const readers = new LogReaders(
    () => {},
    () => true,
  );
  const finalize = async (): Promise<void> => {
    await inTransaction(database.db, async (tx) => {
      const end = { event: "error", data: { code: "cancelled", message: "" }, seq: 2 } as const;
      await appendWithin(tx, turn, [end], "owner");
      await tx.query("update chat_turns set state = 'cancelled', completed_at = now() where id = $1", [
        turn.id,
      ]);
    });
    readers.ended(turn.id);
    running.remove(turn.id);
  };
  let looks = 0;
  const db = Object.assign(Object.create(database.db) as Db, {
    query: async (...asked: Parameters<Db["query"]>) => {
      const result = await database.db.query(...asked);
      looks += 1;
      // The second look finds nothing yet; the turn ends before its answer is in.
      if (looks === 2) await finalize();
      return result;
    },
  });
  const { writer, names } = client();
  const started = {
    event: "stream_started",
    data: { request_id: "", message_id: "", is_new_turn: false },
  } as const;
  await followTurn(
    { db, logger: noLogger, readers, running, channelCapacity: 32, liveAttachments: async () => new Set() },
    { ...turn, started, after: 0 },
    () => writer,
  );
  expect(names()).toEqual(["stream_started", "delta", "error"]);
});
