import { afterAll, beforeAll, expect, test } from "vitest";
import { inTransaction } from "../../src/db/tx.ts";
import { uuidV4 } from "../../src/lib/id.ts";
import { insertAssistantMessage, insertUserMessage } from "../../src/messages/store.ts";
import { newActor, newChat } from "../quota/support.ts";
import { createTestDatabase, type TestDatabase } from "../support/database.ts";

let database: TestDatabase;
beforeAll(async () => {
  database = await createTestDatabase();
});
afterAll(() => database.drop());

test("a question asked in a transaction that waited is newer than an answer deleted meanwhile (turns.md §1)", async () => {
  const { db } = database;
  const actor = newActor();
  const chatId = await newChat(db, actor);
  const message = () => ({
    id: uuidV4(),
    tenantId: actor.tenantId,
    chatId,
    requestId: uuidV4(),
    content: "x",
  });
  await inTransaction(db, async (waiting) => {
    await waiting.query("select now()");
    await inTransaction(db, async (tx) => {
      await insertUserMessage(tx, message());
      const more = { model: "m", providerResponseId: null, usage: null, citations: null, featuresUsed: [] };
      await insertAssistantMessage(tx, { ...message(), ...more });
    });
    await inTransaction(db, (tx) =>
      tx.query("update messages set deleted_at = now() where chat_id = $1 and tenant_id = $2", [
        chatId,
        actor.tenantId,
      ]),
    );
    await insertUserMessage(waiting, message());
  });
  const { rows } = await db.query<{ deleted: boolean }>(
    "select deleted_at is not null as deleted from messages where chat_id = $1 order by created_at",
    [chatId],
  );
  expect(rows.map(({ deleted }) => deleted)).toEqual([true, true, false]);
});
