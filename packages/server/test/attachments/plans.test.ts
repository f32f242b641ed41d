import { randomUUID } from "node:crypto";
import { afterAll, beforeAll, expect, test } from "vitest";
import {
  findAttachmentOwner,
  lockAttachmentOwner,
  softDeleteAttachment,
} from "../../src/attachments/remove-store.ts";
import {
  findAttachment,
  findTotals,
  keepLostProviderFile,
  markAttachmentFailed,
  markAttachmentReady,
  markAttachmentUploaded,
} from "../../src/attachments/upload-store.ts";
import {
  countIndexedFiles,
  deletePlaceholder,
  findStore,
  insertPlaceholder,
  keepStoreForCleanup,
  setStoreId,
  takeOverPlaceholder,
} from "../../src/attachments/vector-store-store.ts";
import { type Actor, asTenantId, asUserId } from "../../src/auth/actor.ts";
import type { Queryable, Statement } from "../../src/db/pool.ts";
import type { Tx } from "../../src/db/tx.ts";
import { addImageBytes, imageBytesToday } from "../../src/quota/image-bytes-store.ts";
import { createTestDatabase, type TestDatabase } from "../support/database.ts";

let database: TestDatabase;
const tenantId = asTenantId(randomUUID());
const actor: Actor = { tenantId, userId: asUserId(randomUUID()), subjectType: "user", scopes: ["*"] };
const row = { tenantId, chatId: randomUUID(), id: randomUUID() };
const now = "2026-03-01T00:00:00Z";

/** Many chats of one tenant with some files each, and many users' quota. */
beforeAll(async () => {
  database = await createTestDatabase();
  const { db } = database;
  await db.query(
    `insert into chats (id, tenant_id, user_id, model)
     select case no when 0 then $2::uuid else gen_random_uuid() end, $1, $3, 'm' from generate_series(0, 2000) no`,
    [tenantId, row.chatId, actor.userId],
  );
  await db.query(
    `insert into attachments (
       id, tenant_id, chat_id, uploaded_by_user_id, filename, content_type, size_bytes, storage_backend,
       provider_id, provider_file_id, status, attachment_kind
     )
     select gen_random_uuid(), tenant_id, id, user_id, 'a', 'text/plain', 1, 's', 's', 'f', 'ready', 'document'
     from chats, generate_series(1, 10)`,
  );
  await db.query(
    `insert into chat_vector_stores (id, tenant_id, chat_id, vector_store_id, provider, provider_id)
     select gen_random_uuid(), tenant_id, id, id::text, 's', 's' from chats`,
  );
  await db.query(
    `insert into quota_usage (tenant_id, user_id, period_type, period_start, bucket)
     select $1, gen_random_uuid(), 'daily', now()::date, 'total' from generate_series(1, 5000)`,
    [tenantId],
  );
  await db.query(
    `insert into messages (id, tenant_id, chat_id, role, content, request_kind, request_id)
     select gen_random_uuid(), tenant_id, id, 'user', 'See it.', 'chat', gen_random_uuid() from chats`,
  );
  await db.query(
    `insert into message_attachments (tenant_id, chat_id, message_id, attachment_id, position)
     select m.tenant_id, m.chat_id, m.id, a.id, 0
     from messages m
     join attachments a on a.chat_id = m.chat_id`,
  );
  await db.query("analyze");
});
afterAll(() => database.drop());

const claim = { id: randomUUID(), claimedAt: now };

const statements: readonly (readonly [string, (db: Tx) => Promise<unknown>])[] = [
  ["the sums of a chat", (db) => findTotals(db, tenantId, row.chatId)],
  ["uploaded", (db) => markAttachmentUploaded(db, row, { providerFileId: "f", bytes: 1 })],
  ["ready", (db) => markAttachmentReady(db, row, null)],
  ["failed", (db) => markAttachmentFailed(db, row, { errorCode: "upload_failed", providerFileId: null })],
  ["a lost file", (db) => keepLostProviderFile(db, row, "f")],
  ["a read", (db) => findAttachment(db, row)],
  ["the owner", (db) => findAttachmentOwner(db, actor, row.chatId, row.id)],
  ["the owner, locked", (db) => lockAttachmentOwner(db, actor, row.chatId, row.id)],
  ["a delete", (db) => softDeleteAttachment(db, actor, row.chatId, row.id)],
  ["the store", (db) => findStore(db, row)],
  ["a placeholder", (db) => insertPlaceholder(db, row, { id: row.id, backend: "s", providerId: "s" })],
  ["a take-over", (db) => takeOverPlaceholder(db, row)],
  ["the store's id", (db) => setStoreId(db, row, { id: row.id, vectorStoreId: "v" })],
  [
    "a store left to cleanup",
    (db) => keepStoreForCleanup(db, row, { id: row.id, backend: "s", providerId: "s", vectorStoreId: "v" }),
  ],
  ["a placeholder taken back", (db) => deletePlaceholder(db, row, claim)],
  ["the number of files", (db) => countIndexedFiles(db, row, 1)],
  ["image bytes of today", (db) => imageBytesToday(db, actor)],
  ["image bytes added", (db) => addImageBytes(db, actor, 1n)],
];

interface Plan {
  readonly "Node Type": string;
  readonly "Relation Name"?: string;
  readonly Plans?: readonly Plan[];
}

const nodesOf = (plan: Plan): Plan[] => [plan, ...(plan.Plans ?? []).flatMap(nodesOf)];

test.each(statements)("%s: no table is read from one end to the other", async (_name, work) => {
  const issued: { statement: Statement; values: unknown[] }[] = [];
  const recorder: Pick<Queryable, "query"> = {
    query: (statement: Statement | string, values: readonly unknown[] = []) => {
      if (typeof statement !== "string") issued.push({ statement, values: [...values] });
      return new Promise(() => {});
    },
  };
  void work(recorder as Tx);
  const [one] = issued;
  if (one === undefined) throw new Error("nothing issued");
  const { rows } = await database.db.query<{ "QUERY PLAN": [{ Plan: Plan }] }>(
    `explain (format json) ${one.statement.text}`,
    one.values,
  );
  const scanned = rows.flatMap((found) => nodesOf(found["QUERY PLAN"][0].Plan));
  expect(scanned.length).toBeGreaterThan(0);
  expect(scanned.filter((node) => node["Node Type"] === "Seq Scan")).toEqual([]);
});
