import { describe, expect, test } from "vitest";
import type { Tree } from "../../src/config/tree.ts";
import { eventually, startTestApp, type TestApp } from "../support/app.ts";
import { callers } from "../support/config.ts";
import {
  cleanupConfig,
  cleanupEvents,
  cleanupOf,
  enqueueRaw,
  receiptsOf,
  softDelete,
  statesOf,
  stockChat,
} from "./support.ts";

/** Its breaker is open for far longer than five attempts take. */
const openFor = (more: Tree = {}, limits: Tree = {}): Tree => ({
  ...cleanupConfig,
  providers: { sim: { storage_kind: "openai", breaker: { open_secs: 1, ...more }, limits } },
});

const failNext = (app: TestApp, times: number): void =>
  app.simulator.setState({ fail: { deletion: { times, status: 500 } } });

const mostAttempts = async (app: TestApp, chatId: string): Promise<number> =>
  Math.max(...(await cleanupOf(app.db, chatId)).map(({ attempts }) => attempts));

describe("while the breaker of a provider is open, no attempt is made or counted", () => {
  test("the fifty files of a chat wait until it closes, and then go with their store", async () => {
    const app = await startTestApp({ config: openFor() });
    try {
      const chatId = await app.createChat();
      await stockChat(app.db, app.simulator, chatId, { images: 50, store: true });
      failNext(app, 5);
      await app.call("DELETE", `/chats/${chatId}`);
      await eventually(async () => (await receiptsOf(app.db, chatId)).length === 1);
      expect(await statesOf(app.db, chatId)).toEqual({ done: 50 });
      expect(await mostAttempts(app, chatId)).toBeLessThanOrEqual(1);
      expect(app.simulator.held()).toEqual({ files: [], vector_stores: [] });
    } finally {
      await app.close();
    }
  }, 60_000);

  test("the store of a chat waits likewise", async () => {
    const app = await startTestApp({ config: openFor() });
    try {
      const chatId = await app.createChat();
      await stockChat(app.db, app.simulator, chatId, { store: true });
      failNext(app, 5);
      await app.call("DELETE", `/chats/${chatId}`);
      await eventually(async () => (await receiptsOf(app.db, chatId)).length === 1);
      expect(app.simulator.held()).toEqual({ files: [], vector_stores: [] });
      expect((await cleanupEvents(app.db)).dead).toEqual([]);
    } finally {
      await app.close();
    }
  }, 60_000);

  test("a file that is deleted alone waits likewise", async () => {
    const app = await startTestApp({ config: openFor() });
    try {
      const chatId = await app.createChat();
      const { attachmentIds } = await stockChat(app.db, app.simulator, chatId, { images: 1 });
      const [attachmentId = ""] = attachmentIds;
      await softDelete(app.db, attachmentId);
      failNext(app, 5);
      await enqueueRaw(app.db, "attachment_cleanup", callers.ann.tenantId, {
        event_type: "attachment_deleted",
        tenant_id: callers.ann.tenantId,
        chat_id: chatId,
        attachment_id: attachmentId,
        provider_file_id: null,
        vector_store_id: null,
        storage_backend: "sim",
        attachment_kind: "image",
      });
      await eventually(async () => (await cleanupEvents(app.db)).waiting === 0);
      expect(await statesOf(app.db, chatId)).toEqual({ done: 1 });
      expect((await cleanupEvents(app.db)).dead).toEqual([]);
      expect(app.simulator.held().files).toEqual([]);
    } finally {
      await app.close();
    }
  }, 60_000);
});

test("attempts of many files add up to no dead letter of their chat", async () => {
  // One call at a time and one failure to open: each file in turn is the one whose attempt fails.
  const breaker = { failure_threshold: 1, half_open_probes: 1, success_threshold: 1 };
  const config = { ...openFor(breaker, { max_concurrent: 1 }), cleanup_worker: { max_attempts: 2 } };
  const app = await startTestApp({ config });
  try {
    const chatId = await app.createChat();
    await stockChat(app.db, app.simulator, chatId, { images: 3 });
    failNext(app, 2);
    await app.call("DELETE", `/chats/${chatId}`);
    await eventually(async () => (await cleanupEvents(app.db)).waiting === 0);
    expect((await cleanupEvents(app.db)).dead).toEqual([]);
    expect(await statesOf(app.db, chatId)).toEqual({ done: 3 });
    expect(await mostAttempts(app, chatId)).toBe(1);
  } finally {
    await app.close();
  }
}, 60_000);
