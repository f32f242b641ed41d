import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { afterAll, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { eventually, type TestApp } from "../support/app.ts";
import {
  answerOf,
  boundary,
  calm,
  cleanupEvents,
  formOf,
  formType,
  heldOf,
  newGate,
  onlyRow,
  openRawUpload,
  partOf,
  rowsOf,
  samplesOf,
  startUploadApp,
  storeRows,
  textFile,
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

const failed = async (): Promise<void> =>
  eventually(async () => (await rowsOf(app.db, chatId)).some(({ status }) => status === "failed"));

/** Resolves when no client of an upload is left. */
const nobodyUploads = (): Promise<void> =>
  eventually(async () => {
    const text = await app.app.metrics.render();
    return !/active_requests\{[^}]*POST[^}]*attachments"\} 1\b/.test(text);
  });

const large = partOf({ ...textFile, bytes: "x".repeat(2_000_000) });

describe("a client that vanishes", () => {
  test("in the middle of the file: the row is interrupted, the provider keeps nothing, the permit is free", async () => {
    const sent = await openRawUpload(app, chatId, [formType, `content-length: ${large.length + 100}`]);
    sent.socket.write(large.subarray(0, 1_000_000));
    await eventually(async () => (await rowsOf(app.db, chatId)).length === 1);
    sent.socket.destroy();
    await failed();
    expect(await onlyRow(app.db, chatId)).toMatchObject({
      error_code: "upload_interrupted",
      provider_file_id: null,
      cleanup_status: null,
    });
    expect(heldOf(app, chatId).files).toEqual([]);
    await eventually(async () => (await samplesOf(app, "attachments_pending"))[""] === 0);
    for (let more = 0; more < 3; more += 1) expect((await upload(app, chatId)).status).toBe(201);
  });

  test.each([
    ["before the provider has taken the file", false],
    ["after the provider has taken the file", true],
  ])("with the whole file sent, %s: interrupted, and the file is due for cleanup", async (_name, after) => {
    const gate = newGate();
    app.simulator.setState({ fail: { upload: { times: 1, gate, after } } });
    const form = formOf(textFile);
    const sent = await openRawUpload(app, chatId, [formType, `content-length: ${form.length}`]);
    sent.socket.write(form);
    await app.simulator.arrived(gate);
    sent.socket.destroy();
    await nobodyUploads();
    app.simulator.open(gate);
    await failed();
    const row = await onlyRow(app.db, chatId);
    const [file] = heldOf(app, chatId).files;
    expect(file?.id).toMatch(/^file-/);
    expect(row).toMatchObject({
      error_code: "upload_interrupted",
      provider_file_id: file?.id,
      cleanup_status: "pending",
    });
    expect(await cleanupEvents(app.db, chatId)).toHaveLength(1);
    await eventually(async () => (await samplesOf(app, "attachments_pending"))[""] === 0);
  });

  test("before the file begins: nothing is left", async () => {
    const sent = await openRawUpload(app, chatId, [formType, "content-length: 100000"]);
    sent.socket.write(`--${boundary}\r\nContent-Dispo`);
    await eventually(() => app.app.metrics.render().then((text) => /active_requests.*POST.* 1\b/.test(text)));
    sent.socket.destroy();
    await nobodyUploads();
    expect(await rowsOf(app.db, chatId)).toEqual([]);
  });

  test.each(["store_creation", "indexing"] as const)(
    "during %s: interrupted, and the file is due for cleanup",
    async (operation) => {
      const stores = app.simulator.state().vector_stores;
      const gate = newGate();
      app.simulator.setState({ fail: { [operation]: { times: 1, gate } } });
      const form = formOf(textFile);
      const sent = await openRawUpload(app, chatId, [formType, `content-length: ${form.length}`]);
      sent.socket.write(form);
      await app.simulator.arrived(gate);
      sent.socket.destroy();
      if (operation === "store_creation") {
        await nobodyUploads();
        app.simulator.open(gate);
      }
      await failed();
      app.simulator.open(gate);
      if (operation === "store_creation") {
        // The answer was waited for: no store is left without its row.
        const [store] = await storeRows(app.db, chatId);
        expect(app.simulator.held().vector_stores.map(({ id }) => id)).toContain(store?.vector_store_id);
        expect(app.simulator.state().vector_stores).toBe(stores + 1);
      }
      const row = await onlyRow(app.db, chatId);
      expect(row).toMatchObject({ error_code: "upload_interrupted", cleanup_status: "pending" });
      expect(row.provider_file_id).toBe(heldOf(app, chatId).files[0]?.id);
      expect(await cleanupEvents(app.db, chatId)).toHaveLength(1);
      // The next upload of the chat is not held up by what the last one left.
      await eventually(async () => (await upload(app, chatId)).status === 201);
    },
  );
});

test("a client that stops sending is refused when the time of an upload is over", async () => {
  const strict = await startUploadApp({
    database: app.database,
    simulator: app.simulator,
    config: { egress: { upload_timeout_secs: 1 } },
  });
  try {
    const chatId = await app.createChat();
    const stalled = await openRawUpload(strict, chatId, [formType, `content-length: ${large.length + 100}`]);
    stalled.socket.write(large.subarray(0, 1_000_000));
    expect(answerOf(await stalled.closed)).toMatchObject({ status: 400, body: { code: "invalid_request" } });
    expect(await onlyRow(app.db, chatId)).toMatchObject({
      status: "failed",
      error_code: "upload_interrupted",
    });
  } finally {
    await strict.close();
  }
});

test("a client that sends no file in time is refused, and its permit comes back", async () => {
  const strict = await startUploadApp({
    database: app.database,
    simulator: app.simulator,
    config: { server: { request_timeout_secs: 1 }, rag: { max_concurrent_uploads: 1 } },
  });
  try {
    const part = partOf(textFile);
    for (const sent of [part.subarray(0, 50), part.subarray(0, -12)]) {
      const waiting = await openRawUpload(strict, chatId, [formType, "content-length: 100000"]);
      waiting.socket.write(sent);
      expect(answerOf(await waiting.closed)).toMatchObject({
        status: 400,
        body: { title: "Multipart Error" },
      });
    }
    expect(await rowsOf(app.db, chatId)).toEqual([]);
    expect((await upload(strict, chatId)).status).toBe(201);
  } finally {
    await strict.close();
  }
});

describe("a Content-Length that lies", () => {
  test("too small: the rest is no part of the request, the form ends early", async () => {
    const form = formOf(textFile);
    const sent = await openRawUpload(app, chatId, [formType, `content-length: ${form.length - 40}`]);
    sent.socket.write(form);
    // What follows is no request: it may be refused before the form is.
    expect(answerOf(await sent.closed).status).toBe(400);
    await eventually(async () =>
      (await rowsOf(app.db, chatId)).every(({ error_code: code }) => code === "upload_interrupted"),
    );
    expect(heldOf(app, chatId).files).toEqual([]);
  });

  test("much too large: refused by the length, whatever comes", async () => {
    const sent = await openRawUpload(app, chatId, [formType, "content-length: 999999999999"]);
    sent.socket.write(partOf(textFile));
    expect(answerOf(await sent.closed)).toMatchObject({ status: 413, body: { code: "file_too_large" } });
    expect(await rowsOf(app.db, chatId)).toEqual([]);
  });
});

/** A provider that takes the beginning of a request and then reads no more. */
const startStalled = async () => {
  const arrived = Promise.withResolvers<void>();
  const server = createServer((request) => {
    request.once("data", () => {
      request.pause();
      arrived.resolve();
    });
  });
  await new Promise<void>((done) => server.listen(0, "127.0.0.1", done));
  return { server, port: (server.address() as AddressInfo).port, arrived: arrived.promise };
};

test("a provider that does not read stops the client: the file is not taken into memory", async () => {
  const { server, port, arrived } = await startStalled();
  const stalled = await startUploadApp({
    database: app.database,
    simulator: app.simulator,
    config: { providers: { sim: { storage_kind: "openai", port } } },
  });
  try {
    const bytes = 24_000_000;
    const sent = await openRawUpload(stalled, chatId, [formType, `content-length: ${bytes}`]);
    sent.socket.write(partOf({ ...textFile, bytes: "" }).subarray(0, -2));
    const chunk = Buffer.alloc(65_536, "x");
    const pump = (): void => {
      while (sent.socket.bytesWritten < bytes - chunk.length && sent.socket.write(chunk));
    };
    sent.socket.on("drain", pump);
    pump();
    await arrived;
    const taken = (): number => sent.socket.bytesWritten - sent.socket.writableLength;
    // Until nothing moves any more: the buffers of the kernel are full on both sides.
    let last = -1;
    await eventually(async () => {
      const before = last;
      last = taken();
      await new Promise((resolve) => setTimeout(resolve, 300));
      return before === taken();
    });
    // Those buffers are most of it; the rest of the file has not left the client.
    expect(last).toBeLessThan(bytes / 2);
    // A client that is not read from is not seen to leave either; the provider's end ends the upload.
    server.closeAllConnections();
    await failed();
    sent.socket.destroy();
    expect(await onlyRow(app.db, chatId)).toMatchObject({ error_code: "upload_failed" });
  } finally {
    server.closeAllConnections();
    server.close();
    await stalled.close();
  }
});

test("a stop waits for uploads, ends what is left as interrupted and says so", async () => {
  const stopping = await startUploadApp({
    database: app.database,
    simulator: app.simulator,
    config: { shutdown_grace_secs: 0 },
  });
  const gate = newGate();
  app.simulator.setState({ fail: { indexing: { times: 1, gate } } });
  const uploading = upload(stopping, chatId);
  await app.simulator.arrived(gate);
  await stopping.close();
  const answer = await uploading;
  expect([answer.status, answer.body.code]).toEqual([503, "shutting_down"]);
  app.simulator.open(gate);
  expect(await onlyRow(app.db, chatId)).toMatchObject({
    error_code: "upload_interrupted",
    cleanup_status: "pending",
  });
});
