import type { StateChange } from "@mini-chat/simulator";
import sharp from "sharp";
import { afterAll, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { eventually, type TestApp } from "../support/app.ts";
import {
  calm,
  cleanupEvents,
  formOf,
  heldOf,
  newGate,
  onlyRow,
  problemOf,
  samplesOf,
  startUploadApp,
  storeRows,
  upload,
} from "./support.ts";

let app: TestApp;
let chatId: string;
beforeAll(async () => {
  app = await startUploadApp();
});
afterAll(() => app.close());
beforeEach(async () => {
  calm(app);
  chatId = await app.createChat();
});

const pendingUploads = async (): Promise<number | undefined> =>
  (await samplesOf(app, "attachments_pending"))[""];

describe("a provider that fails (attachments.md §8)", () => {
  type Fail = NonNullable<StateChange["fail"]>;
  const cases: readonly (readonly [string, Fail, string, string])[] = [
    ["upload 400", { upload: { times: 1, status: 400 } }, "502 provider_rejected", "upload_failed"],
    ["upload 429", { upload: { times: 1, status: 429 } }, "502 provider_rejected", "upload_failed"],
    ["upload 503", { upload: { times: 1, status: 503 } }, "502 provider_unavailable", "upload_failed"],
    ["upload dropped", { upload: { times: 1, status: "drop" } }, "502 provider_unavailable", "upload_failed"],
    [
      "store 500",
      { store_creation: { times: 1, status: 500 } },
      "502 provider_unavailable",
      "vector_store_failed",
    ],
    [
      "store 400",
      { store_creation: { times: 1, status: 400 } },
      "502 provider_rejected",
      "vector_store_failed",
    ],
    ["adding 500", { indexing: { times: 1, status: 500 } }, "502 provider_unavailable", "indexing_failed"],
    ["adding 404", { indexing: { times: 1, status: 404 } }, "502 provider_rejected", "indexing_failed"],
  ];

  test.each(cases)("%s", async (_name, fail, refusal, errorCode) => {
    app.simulator.setState({ fail });
    const answer = await upload(app, chatId);
    expect(problemOf(answer)).toBe(`${refusal} ${refusal.split(" ")[1]}`);
    expect(JSON.stringify(answer.body)).not.toContain("programmed failure");
    const row = await onlyRow(app.db, chatId);
    expect(row).toMatchObject({ status: "failed", error_code: errorCode });
    const events = await cleanupEvents(app.db, chatId);
    if (errorCode === "upload_failed") {
      expect([row.provider_file_id, row.cleanup_status, events]).toEqual([null, null, []]);
    } else {
      // What the provider has accepted is due for cleanup with the same commit.
      const { files } = heldOf(app, chatId);
      expect(files).toMatchObject([{ id: row.provider_file_id }]);
      expect(row.cleanup_status).toBe("pending");
      const [store] = await storeRows(app.db, chatId);
      expect(events).toMatchObject([
        {
          kind: "attachment_cleanup",
          event: {
            attachment_id: row.id,
            provider_file_id: row.provider_file_id,
            vector_store_id: store?.vector_store_id ?? null,
            attachment_kind: "document",
            storage_backend: "sim",
          },
        },
      ]);
    }
    expect(await pendingUploads()).toBe(0);
    const read = await app.call("GET", `/chats/${chatId}/attachments/${row.id}`);
    expect(read.body).toMatchObject({ status: "failed", error_code: errorCode });
  });

  test.each(["failed", "cancelled"] as const)("an index that ends as %s", async (status) => {
    app.simulator.setState({ indexing: { status, polls: 1 } });
    const answer = await upload(app, chatId);
    expect(problemOf(answer)).toBe("502 provider_rejected provider_rejected");
    expect(await onlyRow(app.db, chatId)).toMatchObject({
      status: "failed",
      error_code: "indexing_failed",
      cleanup_status: "pending",
    });
    expect(await cleanupEvents(app.db, chatId)).toHaveLength(1);
  });

  test("a status that never comes does not hold the upload beyond the time it waits for its index", async () => {
    const impatient = await startUploadApp({
      database: app.database,
      simulator: app.simulator,
      config: { rag: { index_wait_secs: 1 } },
    });
    const gate = newGate();
    app.simulator.setState({
      indexing: { status: "completed", polls: 1_000 },
      fail: { poll: { times: 1, gate } },
    });
    try {
      const { status, body } = await upload(impatient, chatId);
      expect([status, body.status]).toEqual([201, "ready"]);
    } finally {
      app.simulator.open(gate);
      await impatient.close();
    }
  }, 10_000);

  test("a creator that fails takes its placeholder back: the next upload makes the store", async () => {
    app.simulator.setState({ fail: { store_creation: { times: 1, status: 500 } } });
    expect((await upload(app, chatId)).status).toBe(502);
    expect(await storeRows(app.db, chatId)).toEqual([]);
    expect((await upload(app, chatId)).status).toBe(201);
  });

  test("a failed upload takes no place of a document and no bytes", async () => {
    const narrow = await startUploadApp({
      database: app.database,
      simulator: app.simulator,
      config: { rag: { max_documents_per_chat: 1 } },
    });
    try {
      app.simulator.setState({ fail: { upload: { times: 1, status: 500 } } });
      expect((await upload(narrow, chatId)).status).toBe(502);
      expect((await upload(narrow, chatId)).status).toBe(201);
      expect(problemOf(await upload(narrow, chatId))).toBe(
        "400 document_limit_exceeded document_limit_exceeded",
      );
    } finally {
      await narrow.close();
    }
  });
});

describe("a row lost to a delete while its file is uploaded", () => {
  /** Deletes something while the provider has the upload in its hands, and resolves with the answer. */
  const during = async (
    operation: "upload" | "indexing" | "store_creation",
    remove: () => Promise<unknown>,
  ) => {
    const gate = newGate();
    app.simulator.setState({ fail: { [operation]: { times: 1, gate } } });
    const uploading = upload(app, chatId);
    await app.simulator.arrived(gate);
    await remove();
    app.simulator.open(gate);
    return uploading;
  };

  const deleteIt = async (): Promise<void> => {
    const { id } = await onlyRow(app.db, chatId);
    expect((await app.call("DELETE", `/chats/${chatId}/attachments/${id}`)).status).toBe(204);
  };

  test("before its file was known: 404, and the file is due for cleanup all the same", async () => {
    const answer = await during("upload", async () => {
      await deleteIt();
      // As a cleanup that found nothing to delete leaves it behind.
      await app.db.query("update attachments set cleanup_status = 'done' where chat_id = $1", [chatId]);
    });
    expect(problemOf(answer)).toBe("404 attachment_not_found Attachment not found");
    const row = await onlyRow(app.db, chatId);
    const [file] = heldOf(app, chatId).files;
    expect(row).toMatchObject({ status: "pending", provider_file_id: file?.id, cleanup_status: "pending" });
    const events = await cleanupEvents(app.db, chatId);
    expect(events.map(({ event }) => event["provider_file_id"])).toEqual([null, file?.id]);
  });

  test("after its file was known: 404, and the delete's own event has the file", async () => {
    const answer = await during("indexing", deleteIt);
    expect(problemOf(answer)).toBe("404 attachment_not_found Attachment not found");
    const events = await cleanupEvents(app.db, chatId);
    expect(events.map(({ event }) => event["provider_file_id"])).toEqual([heldOf(app, chatId).files[0]?.id]);
  });

  test("with its chat, before its file was known: the chat's cleanup is asked once more", async () => {
    const answer = await during("upload", () => app.call("DELETE", `/chats/${chatId}`));
    expect(problemOf(answer)).toBe("404 attachment_not_found Attachment not found");
    expect(await onlyRow(app.db, chatId)).toMatchObject({
      cleanup_status: "pending",
      provider_file_id: heldOf(app, chatId).files[0]?.id,
    });
    const events = await cleanupEvents(app.db, chatId);
    expect(events.map(({ kind }) => kind)).toEqual(["chat_cleanup", "chat_cleanup"]);
    expect(events[1]?.event["chat_deleted_at"]).toBe(events[0]?.event["chat_deleted_at"]);
  });

  test("with its chat, while the store is made: the store is deleted again", async () => {
    const before = app.simulator.state().vector_stores;
    const answer = await during("store_creation", () => app.call("DELETE", `/chats/${chatId}`));
    expect(problemOf(answer)).toBe("404 attachment_not_found Attachment not found");
    expect(app.simulator.state().vector_stores).toBe(before);
    expect(await storeRows(app.db, chatId)).toEqual([]);
    expect(await onlyRow(app.db, chatId)).toMatchObject({ cleanup_status: "pending" });
    expect((await cleanupEvents(app.db, chatId)).map(({ kind }) => kind)).toEqual(["chat_cleanup"]);
  });
});

test("bytes over the limit of the chat are found after the upload: the file is failed and cleaned up", async () => {
  const narrow = await startUploadApp({
    database: app.database,
    simulator: app.simulator,
    config: { rag: { max_total_upload_mb_per_chat: 1 } },
  });
  try {
    const big = { filename: "a.txt", type: "text/plain", bytes: "x".repeat(700_000) };
    expect((await upload(narrow, chatId, big)).status).toBe(201);
    // With a length it is refused before there is a row.
    expect(problemOf(await upload(narrow, chatId, big))).toBe(
      "400 storage_limit_exceeded storage_limit_exceeded",
    );
    expect(await onlyRow(app.db, chatId)).toMatchObject({ status: "ready" });
    const unknown = await upload(narrow, chatId, big, { chunked: true });
    expect(problemOf(unknown)).toBe("400 storage_limit_exceeded storage_limit_exceeded");
    const { rows } = await app.db.query(
      "select status, error_code, cleanup_status from attachments where chat_id = $1 order by id",
      [chatId],
    );
    expect(rows[1]).toEqual({
      status: "failed",
      error_code: "storage_limit_exceeded",
      cleanup_status: "pending",
    });
    expect(await cleanupEvents(app.db, chatId)).toHaveLength(1);
  } finally {
    await narrow.close();
  }
});

test("image bytes of a day: refused over the quota before the provider is called, scope uploads", async () => {
  const bytes = await sharp({ create: { width: 99, height: 99, channels: 3, background: "teal" } })
    .png()
    .toBuffer();
  const image = { filename: "a.png", type: "image/png", bytes };
  const narrow = await startUploadApp({
    simulator: app.simulator,
    config: { quota: { image_upload_bytes_daily_quota: formOf(image).length } },
  });
  try {
    const chat = await narrow.createChat();
    expect((await upload(narrow, chat, image)).status).toBe(201);
    app.simulator.clearRequests();
    const refused = await upload(narrow, chat, image);
    expect([problemOf(refused), refused.body.quota_scope]).toEqual([
      "429 quota_exceeded quota_exceeded",
      "uploads",
    ]);
    expect(app.simulator.requests()).toEqual([]);
    expect((await upload(narrow, chat)).status).toBe(201);
    await narrow.db.query("update quota_usage set period_start = period_start - 400");
    expect((await upload(narrow, chat, image)).status).toBe(201);
  } finally {
    await narrow.close();
  }
});

test("the gauge of uploads in flight goes back to zero whatever became of them", async () => {
  await eventually(async () => (await pendingUploads()) === 0);
  const gate = newGate();
  app.simulator.setState({ fail: { upload: { times: 1, gate } } });
  const uploading = upload(app, chatId);
  await app.simulator.arrived(gate);
  expect(await pendingUploads()).toBe(1);
  app.simulator.open(gate);
  await uploading;
  expect(await pendingUploads()).toBe(0);
});
