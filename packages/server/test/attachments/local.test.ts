import { afterAll, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { xlsx } from "../retrieval/documents.ts";
import { eventually, type TestApp } from "../support/app.ts";
import { callers, modelEntry } from "../support/config.ts";
import {
  answerOf,
  boundary,
  formType,
  onlyRow,
  openRawUpload,
  partOf,
  startUploadApp,
  textFile,
  upload,
} from "./support.ts";

/** Files of a provider that stores none (docs/retrieval.md). */

const config = {
  providers: { sim: { storage_kind: "local" } },
  plugins: {
    model_policy: {
      static: {
        model_catalog: [modelEntry("standard", { preference: { is_default: true, sort_order: 0 } })],
        kill_switches: { disable_code_interpreter: true },
      },
    },
  },
};

let app: TestApp;
let chatId: string;
beforeAll(async () => {
  app = await startUploadApp({ config: { ...config, doc_summary: { enabled: true } } });
});
afterAll(() => app.close());
beforeEach(async () => {
  chatId = await app.createChat();
});

test("a client that stops sending is refused when the time of an upload is over, and its permit comes back", async () => {
  const strict = await startUploadApp({
    database: app.database,
    simulator: app.simulator,
    config: { ...config, egress: { upload_timeout_secs: 1 }, rag: { max_concurrent_uploads: 1 } },
  });
  try {
    const part = partOf({ ...textFile, bytes: "x".repeat(100_000) });
    const waiting = await openRawUpload(strict, chatId, [formType, "content-length: 200000"]);
    waiting.socket.write(part);
    expect(answerOf(await waiting.closed)).toMatchObject({
      status: 400,
      body: { code: "invalid_request", title: "Multipart Error", detail: "The file did not arrive in time." },
    });
    expect(await onlyRow(app.db, chatId)).toMatchObject({
      status: "failed",
      error_code: "upload_interrupted",
    });
    expect((await app.db.query("select from local_files where chat_id = $1", [chatId])).rowCount).toBe(0);
    expect((await upload(strict, chatId)).status).toBe(201);
  } finally {
    await strict.close();
  }
});

const sheet = {
  filename: "fees.xlsx",
  type: "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
  bytes: xlsx("Fees", [["Membership"]]),
};

describe("a spreadsheet", () => {
  const flags = async () =>
    (
      await app.db.query(
        "select status, for_file_search, for_code_interpreter from attachments where chat_id = $1",
        [chatId],
      )
    ).rows;

  test("is searched, since no code interpreter reaches it; it is not summarized", async () => {
    expect((await upload(app, chatId, sheet)).status).toBe(201);
    expect(await flags()).toEqual([{ status: "ready", for_file_search: true, for_code_interpreter: false }]);
    const { rows } = await app.db.query("select place_name, content from local_chunks where chat_id = $1", [
      chatId,
    ]);
    expect(rows).toEqual([{ place_name: "Fees", content: "Membership" }]);
    const summaries = await app.db.query(
      "select from outbox_message where kind = 'doc_summary' and payload::jsonb ->> 'chat_id' = $1",
      [chatId],
    );
    expect(summaries.rowCount).toBe(0);
  });
});

describe("what is deleted is gone from every table", () => {
  const tables = ["local_files", "local_file_pieces", "local_chunks"];
  const left = async (app: TestApp): Promise<number[]> => {
    const counts = tables.map((table) => `select count(*)::int as n from ${table} where chat_id = $1`);
    const stores = "select count(*)::int as n from local_stores where tenant_id = $1";
    const found = await Promise.all([
      ...counts.map((count) => app.db.query<{ n: number }>(count, [chatId])),
      app.db.query<{ n: number }>(stores, [callers.ann.tenantId]),
    ]);
    return found.map(({ rows }) => rows[0]?.n ?? -1);
  };
  let worker: TestApp;
  beforeAll(async () => {
    worker = await startUploadApp({ config: { ...config, role: "all", outbox: { poll_interval_ms: 50 } } });
  });
  afterAll(() => worker.close());
  beforeEach(async () => {
    chatId = await worker.createChat();
  });

  test("one file of a chat, whose others stay", async () => {
    const { body } = await upload(worker, chatId);
    expect((await upload(worker, chatId, sheet)).status).toBe(201);
    expect(await left(worker)).toEqual([2, 2, 2, 1]);
    const path = `/chats/${chatId}/attachments/${body.id}`;
    expect((await worker.call("DELETE", path)).status).toBe(204);
    await eventually(async () => (await left(worker))[0] === 1);
    expect(await left(worker)).toEqual([1, 1, 1, 1]);
    expect((await worker.call("DELETE", `/chats/${chatId}`)).status).toBe(204);
    await eventually(async () => (await left(worker)).every((count) => count === 0));
  });

  test("a chat whose upload is under way", async () => {
    const part = partOf({ ...textFile, bytes: "x".repeat(600_000) });
    const end = Buffer.from(`--${boundary}--\r\n`);
    const length = part.length + end.length;
    const sent = await openRawUpload(worker, chatId, [formType, `content-length: ${length}`]);
    sent.socket.write(part.subarray(0, 500_000));
    await eventually(async () => ((await left(worker))[1] ?? 0) > 0);
    expect((await worker.call("DELETE", `/chats/${chatId}`)).status).toBe(204);
    await eventually(async () => (await onlyRow(worker.db, chatId)).cleanup_status === "done");
    sent.socket.write(Buffer.concat([part.subarray(500_000), end]));
    expect(answerOf(await sent.closed)).toMatchObject({
      status: 404,
      body: { code: "attachment_not_found" },
    });
    await eventually(async () => (await left(worker)).every((count) => count === 0));
  });
});
