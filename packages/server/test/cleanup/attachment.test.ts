import { afterAll, afterEach, beforeAll, describe, expect, test } from "vitest";
import { eventually, startTestApp, type TestApp } from "../support/app.ts";
import { callers } from "../support/config.ts";
import {
  cleanupConfig,
  cleanupEvents,
  cleanupOf,
  enqueueRaw,
  insertAttachment,
  receiptsOf,
  softDelete,
  stockChat,
} from "./support.ts";

let app: TestApp;
beforeAll(async () => {
  app = await startTestApp({ config: cleanupConfig });
});
afterAll(() => app.close());
afterEach(async () => {
  app.simulator.reset();
  await app.db.query("delete from chat_vector_stores");
  await app.db.query("delete from outbox_dead");
});

const quiet = (): Promise<void> => eventually(async () => (await cleanupEvents(app.db)).waiting === 0);

const cleanUp = async (chatId: string, attachmentId: string, change: object = {}): Promise<void> => {
  await enqueueRaw(app.db, "attachment_cleanup", callers.ann.tenantId, {
    event_type: "attachment_deleted",
    tenant_id: callers.ann.tenantId,
    chat_id: chatId,
    attachment_id: attachmentId,
    provider_file_id: null,
    vector_store_id: null,
    storage_backend: "sim",
    attachment_kind: "document",
    ...change,
  });
  await quiet();
};

const deletions = (): string[] =>
  app.simulator
    .requests()
    .filter(({ method }) => method === "DELETE")
    .map(({ path }) => path);

/** A chat with one deleted file; its event is not written yet. */
const deletedFile = async () => {
  const chatId = await app.createChat();
  const stocked = await stockChat(app.db, app.simulator, chatId, { documents: 1 });
  const [attachmentId = ""] = stocked.attachmentIds;
  await softDelete(app.db, attachmentId);
  return { ...stocked, attachmentId };
};

describe("a deleted attachment (outbox.md §10)", () => {
  test("leaves the store, then the provider; the store stays", async () => {
    const { chatId, attachmentId, fileIds, storeId } = await deletedFile();
    await cleanUp(chatId, attachmentId);
    expect(deletions()).toEqual([
      `/v1/vector_stores/${storeId}/files/${fileIds[0]}`,
      `/v1/files/${fileIds[0]}`,
    ]);
    expect(app.simulator.held()).toEqual({ files: [], vector_stores: [{ id: storeId, files: [] }] });
    expect(await cleanupOf(app.db, chatId)).toMatchObject([{ cleanupStatus: "done", attempts: 0 }]);
    expect(await receiptsOf(app.db, chatId)).toEqual([]);
  });

  test("that was never uploaded is done without a call", async () => {
    const chatId = await app.createChat();
    const id = await insertAttachment(app.db, chatId, {
      fileId: null,
      status: "failed",
      cleanupStatus: "pending",
      deleted: true,
    });
    await cleanUp(chatId, id);
    expect(await cleanupOf(app.db, chatId)).toMatchObject([{ cleanupStatus: "done" }]);
    expect(deletions()).toEqual([]);
  });

  test.each([
    [401, 5, 5],
    [403, 5, 5],
    [409, 5, 5],
    [429, 5, 15],
    [500, 5, 15],
    [503, 5, 15],
    [400, 1, 1],
    [422, 1, 1],
  ])("%i: given up after %i attempts, %i requests, and a dead letter", async (status, attempts, requests) => {
    const { chatId, attachmentId } = await deletedFile();
    app.simulator.setState({ fail: { file_deletion: { times: 1_000, status } } });
    await cleanUp(chatId, attachmentId);
    expect(await cleanupOf(app.db, chatId)).toMatchObject([{ cleanupStatus: "failed", attempts }]);
    expect(deletions().filter((path) => path.startsWith("/v1/files/"))).toHaveLength(requests);
    expect((await cleanupEvents(app.db)).dead).toEqual(["max attempts (5) reached"]);
  });

  test("whose removal from the store is refused for good is deleted all the same, and stays a debt", async () => {
    const { chatId, attachmentId } = await deletedFile();
    app.simulator.setState({ fail: { removal: { times: 1_000, status: 405 } } });
    await cleanUp(chatId, attachmentId);
    expect(app.simulator.held().files).toEqual([]);
    expect(await cleanupOf(app.db, chatId)).toMatchObject([
      { cleanupStatus: "failed", attempts: 1, error: expect.stringContaining("HTTP 405") },
    ]);
  });

  test("whose removal from the store fails for now is not deleted before it has left it", async () => {
    const { chatId, attachmentId, fileIds } = await deletedFile();
    app.simulator.setState({ fail: { removal: { times: 3, status: 503 } } });
    await cleanUp(chatId, attachmentId);
    expect(deletions().map((path) => path.endsWith(`/files/${fileIds[0]}`) && path.split("/")[2])).toEqual([
      ...Array(4).fill("vector_stores"),
      "files",
    ]);
    expect(await cleanupOf(app.db, chatId)).toMatchObject([{ cleanupStatus: "done", attempts: 1 }]);
  });

  test.each([404, 410])("%i is success", async (status) => {
    const { chatId, attachmentId } = await deletedFile();
    app.simulator.setState({ fail: { deletion: { times: 1_000, status } } });
    await cleanUp(chatId, attachmentId);
    expect(await cleanupOf(app.db, chatId)).toMatchObject([{ cleanupStatus: "done" }]);
  });

  test.each(["done", "failed", null] as const)("whose cleanup is %s is left alone", async (cleanupStatus) => {
    const { chatId, attachmentId } = await deletedFile();
    await app.db.query("update attachments set cleanup_status = $2 where id = $1", [
      attachmentId,
      cleanupStatus,
    ]);
    await cleanUp(chatId, attachmentId);
    expect(deletions()).toEqual([]);
    expect(await cleanupOf(app.db, chatId)).toMatchObject([{ cleanupStatus, attempts: 0 }]);
    expect((await cleanupEvents(app.db)).dead).toEqual([]);
  });

  test("of a deleted or purged chat, or another tenant's, is not this handler's", async () => {
    const { chatId, attachmentId } = await deletedFile();
    await app.db.query("update chats set deleted_at = now() where id = $1", [chatId]);
    await cleanUp(chatId, attachmentId);
    await cleanUp(attachmentId, attachmentId);
    await cleanUp(await app.createChat(callers.bob), attachmentId);
    expect(deletions()).toEqual([]);
    expect(await cleanupOf(app.db, chatId)).toMatchObject([{ cleanupStatus: "pending" }]);
  });

  test("a file that an upload stored meanwhile is not taken for one that never was", async () => {
    const { chatId, attachmentId, fileIds } = await deletedFile();
    app.simulator.setState({ fail: { removal: { times: 1, gate: "deleting" } } });
    const cleaning = cleanUp(chatId, attachmentId);
    await app.simulator.arrived("deleting");
    await app.db.query("update attachments set provider_file_id = 'file-other' where id = $1", [
      attachmentId,
    ]);
    app.simulator.open("deleting");
    await cleaning;
    expect(await cleanupOf(app.db, chatId)).toMatchObject([{ cleanupStatus: "pending" }]);
    expect(deletions()).toContain(`/v1/files/${fileIds[0]}`);
  });
});

test("a cap of our own is no failed attempt", async () => {
  const capped = await startTestApp({
    config: {
      ...cleanupConfig,
      providers: { sim: { storage_kind: "openai", limits: { per_tenant_max: 2 } } },
    },
  });
  try {
    const chatId = await capped.createChat();
    await stockChat(capped.db, capped.simulator, chatId, { images: 12 });
    await capped.call("DELETE", `/chats/${chatId}`);
    await eventually(async () => (await receiptsOf(capped.db, chatId)).length === 1);
    for (const row of await cleanupOf(capped.db, chatId)) {
      expect(row).toMatchObject({ cleanupStatus: "done", attempts: 0 });
    }
  } finally {
    await capped.close();
  }
}, 60_000);

test("a provider that does not answer costs an attempt, within the lease", async () => {
  const short = await startTestApp({
    config: cleanupConfig,
    overrides: { queues: { chat_cleanup: { leaseMs: 3_000, headroomMs: 200 } } },
  });
  try {
    const chatId = await short.createChat();
    await stockChat(short.db, short.simulator, chatId, { images: 1 });
    short.simulator.setState({ fail: { file_deletion: { times: 1, status: "hang" } } });
    await short.call("DELETE", `/chats/${chatId}`);
    await eventually(async () => (await receiptsOf(short.db, chatId)).length === 1);
    expect(await cleanupOf(short.db, chatId)).toMatchObject([
      { cleanupStatus: "done", attempts: 1, error: "timed out" },
    ]);
  } finally {
    await short.close();
  }
});

test("with cleanup_worker.enabled off, events wait", async () => {
  const off = await startTestApp({ config: { ...cleanupConfig, cleanup_worker: { enabled: false } } });
  try {
    const chatId = await off.createChat();
    await stockChat(off.db, off.simulator, chatId, { images: 1 });
    await off.call("DELETE", `/chats/${chatId}`);
    expect((await cleanupEvents(off.db)).waiting).toBe(1);
  } finally {
    await off.close();
  }
});
