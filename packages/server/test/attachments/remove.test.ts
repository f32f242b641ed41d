import { afterAll, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { wireMillis } from "../../src/outbox/wire.ts";
import { holdLock, releaseLocks, waitingForLocks } from "../crash/support.ts";
import type { TestApp } from "../support/app.ts";
import { callers } from "../support/config.ts";
import {
  calm,
  cleanupEvents,
  onlyRow,
  problemOf,
  startUploadApp,
  storeRows,
  textFile,
  upload,
} from "./support.ts";

let app: TestApp;
let chatId: string;
let id: string;
beforeAll(async () => {
  app = await startUploadApp();
});
afterAll(async () => {
  await releaseLocks();
  await app.close();
});
beforeEach(async () => {
  calm(app);
  chatId = await app.createChat();
  id = (await upload(app, chatId)).body.id;
});

const path = (): string => `/chats/${chatId}/attachments/${id}`;
const remove = () => app.call("DELETE", path());

/** A message of the chat that refers to the attachment. */
const link = async (db: Pick<TestApp["db"], "query"> = app.db): Promise<string> => {
  const { rows } = await db.query<{ id: string }>(
    `insert into messages (id, tenant_id, chat_id, role, content, request_kind, request_id)
     values (gen_random_uuid(), $1, $2, 'user', 'See the plan.', 'chat', gen_random_uuid())
     returning id`,
    [callers.ann.tenantId, chatId],
  );
  const messageId = rows[0]?.id ?? "";
  await db.query(
    `insert into message_attachments (tenant_id, chat_id, message_id, attachment_id, position)
     values ($1, $2, $3, $4, 0)`,
    [callers.ann.tenantId, chatId, messageId, id],
  );
  return messageId;
};

describe("DELETE of an attachment (attachments.md §11)", () => {
  test("is 204 and asks for the cleanup of its file with the same commit; gone for every reader", async () => {
    expect((await remove()).status).toBe(204);
    const row = await onlyRow(app.db, chatId);
    expect(row).toMatchObject({ status: "ready", cleanup_status: "pending" });
    expect(row.deleted_at).not.toBeNull();
    const [store] = await storeRows(app.db, chatId);
    expect(store?.file_count).toBe(0);
    expect(await cleanupEvents(app.db, chatId)).toEqual([
      {
        kind: "attachment_cleanup",
        event: {
          event_type: "attachment_deleted",
          tenant_id: callers.ann.tenantId,
          chat_id: chatId,
          attachment_id: id,
          provider_file_id: row.provider_file_id,
          vector_store_id: store?.vector_store_id,
          storage_backend: "sim",
          attachment_kind: "document",
          deleted_at: wireMillis(row.deleted_at ?? ""),
        },
      },
    ]);
    expect(problemOf(await app.call("GET", path()))).toBe("404 attachment_not_found Attachment not found");
  });

  test("repeated, and twenty at once, is 204 with one event", async () => {
    const answers = await Promise.all(Array.from({ length: 20 }, remove));
    expect(answers.map(({ status }) => status)).toEqual(Array(20).fill(204));
    expect((await remove()).status).toBe(204);
    expect(await cleanupEvents(app.db, chatId)).toHaveLength(1);
  });

  test("of what a message refers to is 409, and nothing happens; also of a deleted message", async () => {
    const messageId = await link();
    for (const deleted of [false, true]) {
      if (deleted) await app.db.query("update messages set deleted_at = now() where id = $1", [messageId]);
      expect(problemOf(await remove())).toBe("409 attachment_locked Conflict");
    }
    expect(await onlyRow(app.db, chatId)).toMatchObject({ deleted_at: null, cleanup_status: null });
    expect(await cleanupEvents(app.db, chatId)).toEqual([]);
  });

  test("while a send links it waits, and is 409 when the send commits, 204 when it does not", async () => {
    for (const end of ["rollback", "commit"] as const) {
      id = (await upload(app, chatId)).body.id;
      // A send locks what it names before it links it (attachments.md §10).
      const release = await holdLock(
        app.database.url,
        `with message as (
           insert into messages (id, tenant_id, chat_id, role, content, request_kind, request_id)
           select gen_random_uuid(), tenant_id, chat_id, 'user', 'See it.', 'chat', gen_random_uuid()
           from attachments where id = $1 for share
           returning id, tenant_id, chat_id
         )
         insert into message_attachments (tenant_id, chat_id, message_id, attachment_id, position)
         select tenant_id, chat_id, id, $1, 0 from message`,
        [id],
      );
      const removing = remove();
      await waitingForLocks(app.db);
      await release(end);
      expect((await removing).status).toBe(end === "commit" ? 409 : 204);
    }
  });

  test("of a failed one leaves its cleanup as it stands", async () => {
    app.simulator.setState({ fail: { indexing: { times: 1, status: 500 } } });
    const chat = await app.createChat();
    await upload(app, chat);
    const row = await onlyRow(app.db, chat);
    await app.db.query("update attachments set cleanup_status = 'done' where id = $1", [row.id]);
    expect((await app.call("DELETE", `/chats/${chat}/attachments/${row.id}`)).status).toBe(204);
    expect(await onlyRow(app.db, chat)).toMatchObject({ status: "failed", cleanup_status: "done" });
  });

  test("takes the file out of the sums at once", async () => {
    await remove();
    const narrow = await startUploadApp({
      database: app.database,
      simulator: app.simulator,
      config: { rag: { max_documents_per_chat: 1 } },
    });
    try {
      expect((await upload(narrow, chatId)).status).toBe(201);
      expect((await upload(narrow, chatId, textFile)).body.code).toBe("document_limit_exceeded");
    } finally {
      await narrow.close();
    }
  });
});
