import { randomUUID } from "node:crypto";
import { afterAll, afterEach, beforeAll, describe, expect, test } from "vitest";
import { upload } from "../attachments/support.ts";
import { eventually, startTestApp, type TestApp } from "../support/app.ts";
import { callers } from "../support/config.ts";
import {
  cleanupConfig,
  cleanupEvents,
  cleanupOf,
  enqueueRaw,
  insertAttachment,
  insertStore,
  receiptsOf,
  softDelete,
  statesOf,
  stockChat,
  storeRows,
  uploadFile,
} from "./support.ts";

let app: TestApp;
beforeAll(async () => {
  app = await startTestApp({ config: cleanupConfig });
});
afterAll(() => app.close());
afterEach(async () => {
  // Ids of the simulator begin anew.
  app.simulator.reset();
  await app.db.query("delete from chat_vector_stores");
  await app.db.query("delete from outbox_message");
  await app.db.query("delete from outbox_dead");
});

const remove = async (chatId: string): Promise<void> => {
  expect((await app.call("DELETE", `/chats/${chatId}`)).status).toBe(204);
};

const quiet = (): Promise<void> => eventually(async () => (await cleanupEvents(app.db)).waiting === 0);

const receipts = async (chatId: string, count: number): Promise<Record<string, unknown>[]> => {
  await eventually(async () => (await app.db.query("select from outbox_message")).rowCount === 0);
  const found = await receiptsOf(app.db, chatId);
  expect(found).toHaveLength(count);
  return found;
};

const deletions = (): string[] =>
  app.simulator
    .requests()
    .filter(({ method }) => method === "DELETE")
    .map(({ path }) => path);

describe("a deleted chat (outbox.md §10)", () => {
  test("loses its fifty files and its store within 5 s, the store last", async () => {
    const chatId = await app.createChat();
    const { storeId } = await stockChat(app.db, app.simulator, chatId, { documents: 40, images: 10 });
    const startedAt = performance.now();
    await remove(chatId);
    await eventually(async () => (await storeRows(app.db, chatId)) === 0);
    expect(performance.now() - startedAt).toBeLessThan(5_000);
    expect(app.simulator.held()).toEqual({ files: [], vector_stores: [] });
    expect(await statesOf(app.db, chatId)).toEqual({ done: 50 });
    expect(deletions().at(-1)).toBe(`/v1/vector_stores/${storeId}`);
    const [receipt] = await receipts(chatId, 1);
    const { rows } = await app.db.query<{ deleted: string }>(
      `select to_char(deleted_at at time zone 'utc', 'YYYY-MM-DD"T"HH24:MI:SS') as deleted from chats where id = $1`,
      [chatId],
    );
    expect(receipt).toEqual({
      type: "erasure",
      event_type: "chat_provider_data_erased",
      timestamp: expect.stringMatching(/^\d{4}-.*\.\d{3}Z$/),
      tenant_id: callers.ann.tenantId,
      requester_type: "system",
      user_id: callers.ann.userId,
      chat_id: chatId,
      request_id: expect.stringMatching(/^[0-9a-f-]{36}$/),
      reason: "chat_soft_delete",
      chat_deleted_at: expect.stringContaining(rows[0]?.deleted ?? "missing"),
      files_deleted: 50,
      stores_deleted: 1,
    });
  });

  test("removes each document from the store before it is deleted; an image is only deleted", async () => {
    const chatId = await app.createChat();
    const { fileIds, storeId } = await stockChat(app.db, app.simulator, chatId, { documents: 1, images: 1 });
    await remove(chatId);
    await quiet();
    const [document, image] = fileIds;
    expect(deletions().filter((path) => !path.endsWith(image ?? ""))).toEqual([
      `/v1/vector_stores/${storeId}/files/${document}`,
      `/v1/files/${document}`,
      `/v1/vector_stores/${storeId}`,
    ]);
    expect(deletions()).toContain(`/v1/files/${image}`);
  });

  test("without files gets its receipt too, once, however often its event comes", async () => {
    const chatId = await app.createChat();
    await remove(chatId);
    const [receipt] = await receipts(chatId, 1);
    expect(receipt).toMatchObject({ files_deleted: 0, stores_deleted: 0 });
    await redeliver(chatId);
    await receipts(chatId, 1);
  });

  test("takes files that were deleted one by one, and those that never got to the provider", async () => {
    const chatId = await app.createChat();
    const { attachmentIds } = await stockChat(app.db, app.simulator, chatId, { documents: 2 });
    await softDelete(app.db, attachmentIds[0] ?? "");
    await insertAttachment(app.db, chatId, { fileId: null, status: "failed" });
    await remove(chatId);
    await quiet();
    expect(await statesOf(app.db, chatId)).toEqual({ done: 3 });
    expect(app.simulator.held()).toEqual({ files: [], vector_stores: [] });
    expect(await receipts(chatId, 1)).toMatchObject([{ files_deleted: 2 }]);
  });

  test("whose store was still being created loses the placeholder", async () => {
    const chatId = await app.createChat();
    await insertStore(app.db, chatId, null);
    await remove(chatId);
    await eventually(async () => (await storeRows(app.db, chatId)) === 0);
    expect(await receipts(chatId, 1)).toMatchObject([{ stores_deleted: 0 }]);
  });

  test("goes on past a file that fails, tries it again, and keeps the store until then", async () => {
    const chatId = await app.createChat();
    await stockChat(app.db, app.simulator, chatId, { images: 3, store: true });
    // One file's delivery with both retries of the adapter.
    app.simulator.setState({ fail: { file_deletion: { times: 3, status: 503 } } });
    await remove(chatId);
    await quiet();
    const rows = await cleanupOf(app.db, chatId);
    expect(rows.map(({ cleanupStatus }) => cleanupStatus)).toEqual(["done", "done", "done"]);
    expect(deletions().at(-1)).toMatch(/vector_stores\/vs_mock_\d+$/);
    await receipts(chatId, 1);
  });

  test("with a file given up after five attempts loses its store, and gets no receipt", async () => {
    const chatId = await app.createChat();
    await stockChat(app.db, app.simulator, chatId, { images: 1, store: true });
    app.simulator.setState({ fail: { file_deletion: { times: 1_000, status: 500 } } });
    await remove(chatId);
    await quiet();
    expect(await cleanupOf(app.db, chatId)).toMatchObject([
      { cleanupStatus: "failed", attempts: 5, error: expect.stringContaining("HTTP 500") },
    ]);
    expect(deletions().filter((path) => path.includes("/files/"))).toHaveLength(15);
    expect(app.simulator.held()).toMatchObject({ files: [{}], vector_stores: [] });
    expect(await storeRows(app.db, chatId)).toBe(0);
    await receipts(chatId, 0);
    expect(app.logs.some(({ msg }) => msg === "vector store of a chat with given up files is deleted")).toBe(
      true,
    );
  });

  test.each([400, 405, 422])("a file is given up at once on %i", async (status) => {
    const chatId = await app.createChat();
    await stockChat(app.db, app.simulator, chatId, { images: 1 });
    app.simulator.setState({ fail: { file_deletion: { times: 9, status } } });
    await remove(chatId);
    await quiet();
    expect(await cleanupOf(app.db, chatId)).toMatchObject([{ cleanupStatus: "failed", attempts: 1 }]);
    await receipts(chatId, 0);
  });

  test.each([404, 410])("%i is success for files and store", async (status) => {
    const chatId = await app.createChat();
    await stockChat(app.db, app.simulator, chatId, { documents: 2 });
    app.simulator.setState({ fail: { deletion: { times: 1_000, status } } });
    await remove(chatId);
    await quiet();
    expect(await statesOf(app.db, chatId)).toEqual({ done: 2 });
    await receipts(chatId, 1);
  });

  test("whose store cannot be deleted keeps the row, and becomes a dead letter after five attempts", async () => {
    const chatId = await app.createChat();
    await stockChat(app.db, app.simulator, chatId, { documents: 1 });
    app.simulator.setState({ fail: { store_deletion: { times: 1_000, status: 403 } } });
    await remove(chatId);
    await eventually(async () => (await cleanupEvents(app.db)).dead.length === 1);
    const { rows } = await app.db.query(
      `select cleanup_attempts as attempts, last_cleanup_error as error
       from chat_vector_stores where chat_id = $1`,
      [chatId],
    );
    expect(rows).toEqual([{ attempts: 5, error: expect.stringContaining("HTTP 403") }]);
    expect((await cleanupEvents(app.db)).dead[0]).toContain("max attempts (5) reached");
    await receipts(chatId, 0);
  }, 60_000);

  test("whose provider is not configured any more keeps failing, without a call", async () => {
    const chatId = await app.createChat();
    await stockChat(app.db, app.simulator, chatId, { images: 1 });
    await app.db.query("update attachments set provider_id = 'gone' where chat_id = $1", [chatId]);
    await remove(chatId);
    await quiet();
    expect(await cleanupOf(app.db, chatId)).toMatchObject([
      { cleanupStatus: "failed", attempts: 5, error: "the provider is not configured" },
    ]);
    expect(deletions()).toEqual([]);
  });

  test("has no receipt while an upload may be under way, and then counts its file", async () => {
    const chatId = await app.createChat();
    const id = await insertAttachment(app.db, chatId, { fileId: null, status: "pending" });
    await remove(chatId);
    await eventually(async () => (await statesOf(app.db, chatId))["done"] === 1);
    await eventually(() =>
      app.logs.some(({ msg, error }) => `${msg} ${error}`.includes("upload may be under way")),
    );
    expect(await receiptsOf(app.db, chatId)).toEqual([]);
    // What an upload does that lost its row to the deletion (attachments.md §17).
    const fileId = await uploadFile(app.simulator, `${chatId}_${id}.txt`);
    await app.db.query(
      `update attachments set provider_file_id = $2, cleanup_status = 'pending', status = 'failed',
         error_code = 'upload_interrupted'
       where id = $1`,
      [id, fileId],
    );
    await eventually(async () => (await receiptsOf(app.db, chatId)).length === 1);
    expect(await receiptsOf(app.db, chatId)).toMatchObject([{ files_deleted: 1 }]);
    expect(app.simulator.held().files).toEqual([]);
  }, 30_000);
});

test("a store that an upload made for a deleted chat and could not delete again is deleted by the chat's cleanup", async () => {
  const chatId = await app.createChat();
  app.simulator.setState({ fail: { store_creation: { times: 1, gate: "made", after: true } } });
  const uploading = upload(app, chatId);
  await app.simulator.arrived("made");
  await remove(chatId);
  // The placeholder is gone by now, so nothing tells of the store.
  await eventually(async () => (await storeRows(app.db, chatId)) === 0);
  app.simulator.setState({ fail: { store_deletion: { times: 3, status: 503 } } });
  app.simulator.open("made");
  expect((await uploading).status).toBe(404);
  await app.db.query("update attachments set updated_at = now() - interval '1 day' where chat_id = $1", [
    chatId,
  ]);
  expect(await receipts(chatId, 1)).toMatchObject([{ files_deleted: 1, stores_deleted: 1 }]);
  expect(app.simulator.held()).toEqual({ files: [], vector_stores: [] });
}, 30_000);

/** Delivers a chat's cleanup event again, as after a crash before its acknowledgement. */
const redeliver = (chatId: string, change: object = {}): Promise<void> =>
  enqueueRaw(app.db, "chat_cleanup", chatId, {
    reason: "chat_soft_delete",
    tenant_id: callers.ann.tenantId,
    chat_id: chatId,
    system_request_id: randomUUID(),
    chat_deleted_at: "2026-01-01T00:00:00.000Z",
    ...change,
  });

describe("events that cannot be served", () => {
  test("of a live chat are rejected, and nothing of it is touched", async () => {
    const chatId = await app.createChat();
    await stockChat(app.db, app.simulator, chatId, { images: 1 });
    await redeliver(chatId);
    await eventually(async () => (await cleanupEvents(app.db)).dead.length === 1);
    expect((await cleanupEvents(app.db)).dead).toEqual(["chat is not soft-deleted"]);
    expect(deletions()).toEqual([]);
  });

  test("of a purged chat are done with", async () => {
    await redeliver(randomUUID());
    await quiet();
    expect((await cleanupEvents(app.db)).dead).toEqual([]);
  });

  test("of a chat of another tenant touch nothing", async () => {
    const chatId = await app.createChat(callers.bob);
    await redeliver(chatId);
    await quiet();
    expect((await cleanupEvents(app.db)).dead).toEqual([]);
  });

  test("that nobody can read are rejected", async () => {
    await redeliver(randomUUID(), { tenant_id: 7 });
    await eventually(async () => (await cleanupEvents(app.db)).dead.length === 1);
    expect((await cleanupEvents(app.db)).dead[0]).toContain("deserialization failed");
  });
});
