import sharp from "sharp";
import { afterAll, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { eventually, type TestApp } from "../support/app.ts";
import { callers } from "../support/config.ts";
import {
  calm,
  cleanupEvents,
  formOf,
  heldOf,
  onlyRow,
  rowsOf,
  samplesOf,
  sendForm,
  startUploadApp,
  storeRows,
  textFile,
  upload,
} from "./support.ts";

let app: TestApp;
let chatId: string;
beforeAll(async () => {
  app = await startUploadApp({ config: { doc_summary: { enabled: true } } });
});
afterAll(() => app.close());
beforeEach(async () => {
  calm(app);
  chatId = await app.createChat();
});

const xlsx = {
  filename: "sums.xlsx",
  type: "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
  bytes: Buffer.from("PK\x03\x04 and so on"),
};

const png = (width = 300, height = 150): Promise<Buffer> =>
  sharp({ create: { width, height, channels: 3, background: "teal" } })
    .png()
    .toBuffer();

const storageCalls = (): string[] =>
  app.simulator
    .requests()
    .map(({ method, path }) => `${method} ${path.replaceAll(/(file|vs)-?_?mock-?_?\d+/g, "$1")}`);

describe("a document", () => {
  test("is stored, indexed and ready when the answer comes, and can be read", async () => {
    const { status, headers, body } = await upload(app, chatId);
    expect(status).toBe(201);
    expect(headers.get("location")).toBe(`/v1/chats/${chatId}/attachments/${body.id}`);
    expect(body).toEqual({
      id: expect.stringMatching(/^[0-9a-f]{8}-[0-9a-f]{4}-7/),
      filename: "plan.txt",
      content_type: "text/plain",
      size_bytes: 18,
      status: "ready",
      kind: "document",
      created_at: expect.stringMatching(/Z$/),
    });
    const read = await app.call("GET", `/chats/${chatId}/attachments/${body.id}`);
    expect([read.status, read.body]).toEqual([200, body]);
    const row = await onlyRow(app.db, chatId);
    expect(row).toMatchObject({ status: "ready", size_bytes: 18n, cleanup_status: null });
    expect(heldOf(app, chatId)).toEqual({
      files: [{ id: row.provider_file_id, filename: `${chatId}_${body.id}.txt`, bytes: 18 }],
      vector_stores: [{ id: expect.any(String), files: [row.provider_file_id] }],
    });
    expect(await storeRows(app.db, chatId)).toMatchObject([{ file_count: 1 }]);
  });

  test("goes to the provider by a name of ids, with its purpose, and is found by its attribute", async () => {
    const { body } = await upload(app, chatId, { ...textFile, filename: "secret name.txt" });
    const sent = JSON.stringify(app.simulator.requests());
    expect(sent).not.toContain("secret");
    expect(sent).toContain('"purpose":"assistants"');
    const added = app.simulator.requests().find(({ path }) => /vector_stores\/[^/]+\/files$/.test(path));
    expect(added?.body).toMatchObject({
      attributes: { attachment_id: body.id, uploaded_at: body.created_at },
    });
  });

  test("for file search asks for its summary with the same commit, where summaries are made", async () => {
    const { body } = await upload(app, chatId);
    await upload(app, chatId, xlsx);
    const { rows } = await app.db.query(
      `select payload::jsonb as event from outbox_message
       where kind = 'doc_summary' and payload::jsonb ->> 'chat_id' = $1`,
      [chatId],
    );
    expect(rows).toMatchObject([{ event: { attachment_id: body.id, tenant_id: callers.ann.tenantId } }]);
  });

  test("for the code interpreter is not indexed", async () => {
    const { body } = await upload(app, chatId, xlsx);
    expect(body).toMatchObject({ status: "ready", kind: "document" });
    expect(storageCalls()).toEqual(["POST /v1/files"]);
    expect(await storeRows(app.db, chatId)).toEqual([]);
    const { rows } = await app.db.query(
      "select for_file_search, for_code_interpreter from attachments where chat_id = $1",
      [chatId],
    );
    expect(rows).toEqual([{ for_file_search: false, for_code_interpreter: true }]);
  });

  test("under a general type is what its name says, and the answer shows it", async () => {
    const { body } = await upload(app, chatId, {
      filename: "Notes.MD",
      type: "application/octet-stream",
      bytes: "# Notes",
    });
    expect(body.content_type).toBe("text/markdown");
  });

  test("of a second upload goes into the same store", async () => {
    await upload(app, chatId);
    await upload(app, chatId);
    expect(heldOf(app, chatId).vector_stores).toMatchObject([
      { files: [expect.any(String), expect.any(String)] },
    ]);
    expect(await storeRows(app.db, chatId)).toMatchObject([{ file_count: 2 }]);
  });
});

describe("an image", () => {
  test("is stored with a preview, not indexed, and counted for its user", async () => {
    const bytes = await png();
    const before = await app.db.query("select from quota_usage where image_upload_bytes > 0");
    expect(before.rowCount).toBe(0);
    const { body } = await upload(app, chatId, { filename: "a.png", type: "image/png", bytes });
    expect(body).toMatchObject({
      status: "ready",
      kind: "image",
      size_bytes: bytes.length,
      img_thumbnail: { content_type: "image/webp", width: 128, height: 64 },
    });
    const preview = Buffer.from(body.img_thumbnail.data_base64, "base64");
    expect((await sharp(preview).metadata()).format).toBe("webp");
    expect(storageCalls()).toEqual(["POST /v1/files"]);
    const { rows } = await app.db.query(
      "select period_type, bucket, image_upload_bytes from quota_usage order by period_type",
    );
    const counted = { bucket: "total", image_upload_bytes: BigInt(bytes.length) };
    expect(rows).toEqual([
      { period_type: "daily", ...counted },
      { period_type: "monthly", ...counted },
    ]);
  });

  test("declared as another allowed image is stored under its real type", async () => {
    const { body } = await upload(app, chatId, { filename: "a.gif", type: "image/gif", bytes: await png() });
    expect(body).toMatchObject({ content_type: "image/png", filename: "a.gif" });
    expect(heldOf(app, chatId).files).toMatchObject([{ filename: `${chatId}_${body.id}.png` }]);
  });

  test("that cannot be decoded, or is a bomb, is ready without a preview", async () => {
    const bomb = await png(10_000, 10_000);
    const broken = Buffer.concat([(await png()).subarray(0, 40), Buffer.alloc(5_000, 9)]);
    for (const bytes of [bomb, broken]) {
      const { status, body } = await upload(app, chatId, { filename: "a.png", type: "image/png", bytes });
      expect([status, body.status, "img_thumbnail" in body, "error_code" in body]).toEqual([
        201,
        "ready",
        false,
        false,
      ]);
    }
  });
});

describe("the form", () => {
  test("may hold other parts, before and after; the first part named file counts", async () => {
    const form = formOf(
      { name: "note", filename: null, type: null, bytes: "x".repeat(30_000) },
      { name: "File", filename: "b.txt", bytes: "not this one" },
      textFile,
      { ...textFile, filename: "second.txt", bytes: "nor this one" },
    );
    const { status, body } = await sendForm(app, chatId, form);
    expect([status, body.filename, body.size_bytes]).toEqual([201, "plan.txt", 18]);
    expect(await rowsOf(app.db, chatId)).toHaveLength(1);
  });

  test("may come in chunks, without a length", async () => {
    const { status, body } = await upload(app, chatId, textFile, { chunked: true });
    expect([status, body.size_bytes]).toEqual([201, 18]);
  });

  test("may have a preamble, an epilogue and no file name", async () => {
    const form = Buffer.concat([
      Buffer.from("preamble\r\n"),
      formOf({ ...textFile, filename: null }),
      Buffer.from("epilogue"),
    ]);
    const { status, body } = await sendForm(app, chatId, form);
    expect([status, body.filename]).toEqual([201, "upload"]);
  });

  test("may hold bytes that look like its boundary", async () => {
    const bytes = `--\r\n----boundary-of-the-tes\r\n\r\n--${"\r\n-".repeat(2_000)}`;
    const { body } = await upload(app, chatId, { ...textFile, bytes });
    expect(body.size_bytes).toBe(bytes.length);
  });

  test("gives a file of megabytes to the provider unchanged", async () => {
    const bytes = Buffer.alloc(7_000_000, "0123456789abcdef\r\n--");
    const { body } = await upload(app, chatId, { ...textFile, bytes });
    expect(body.size_bytes).toBe(bytes.length);
    const content = await fetch(
      `${app.simulator.url}/v1/files/${(await onlyRow(app.db, chatId)).provider_file_id}/content`,
    );
    expect(Buffer.from(await content.arrayBuffer()).equals(bytes)).toBe(true);
  });
});

describe("file names", () => {
  test.each<[string, string, string]>([
    ["10,000 characters", `${"n".repeat(10_000)}.txt`, `${"n".repeat(251)}.txt`],
    ["a path", "../../../etc/passwd.txt", "passwd.txt"],
    ["a Windows path", "C:\\dir\\plan.txt", "plan.txt"],
    ["control characters", "a\u0000b\u0007c.txt", "abc.txt"],
    ["a direction override", "txt.\u202ecod", "txt.cod"],
    ["letters of the world", "プラン \u{1f4c4} né.txt", "プラン \u{1f4c4} né.txt"],
    ["nothing", "", "upload"],
  ])("%s", async (_name, filename, stored) => {
    const { status, body } = await upload(app, chatId, { ...textFile, filename });
    expect([status, body.filename]).toEqual([201, stored]);
    expect(heldOf(app, chatId).files.map((file) => file.filename)).toEqual([`${chatId}_${body.id}.txt`]);
  });
});

describe("indexing", () => {
  test("that is not over with the call is waited for", async () => {
    app.simulator.setState({ indexing: { status: "completed", polls: 1 } });
    const { body } = await upload(app, chatId);
    expect(body.status).toBe("ready");
    expect(storageCalls().filter((call) => call.startsWith("GET"))).toHaveLength(2);
  });

  test("that never ends is left to the provider after the limit", async () => {
    const quick = await startUploadApp({
      database: app.database,
      simulator: app.simulator,
      config: { rag: { index_wait_secs: 0 } },
    });
    try {
      app.simulator.setState({ indexing: { status: "completed", polls: 1_000 } });
      expect((await upload(quick, chatId)).body.status).toBe("ready");
      expect(storageCalls().filter((call) => call.startsWith("GET"))).toHaveLength(0);
    } finally {
      await quick.close();
    }
  });

  test("whose status cannot be read goes on", async () => {
    app.simulator.setState({
      indexing: { status: "completed", polls: 5 },
      fail: { poll: { times: 1, status: 405 } },
    });
    expect((await upload(app, chatId)).body.status).toBe("ready");
  });
});

test("what has no end of its own: no list, no content, no ranges", async () => {
  const { body } = await upload(app, chatId);
  const at = `/chats/${chatId}/attachments`;
  const methods = async (method: string, path: string): Promise<number> =>
    (await app.call(method, path)).status;
  expect(await methods("GET", at)).toBe(405);
  expect(await methods("HEAD", `${at}/${body.id}`)).toBe(405);
  expect(await methods("GET", `${at}/${body.id}/content`)).toBe(404);
  expect(await methods("PUT", `${at}/${body.id}`)).toBe(405);
});

test("metrics: one result per upload, bytes of ready files, and nothing left in flight", async () => {
  const before = await samplesOf(app, "attachment_upload_total");
  await upload(app, chatId);
  const after = await samplesOf(app, "attachment_upload_total");
  const labels = '{kind="document",result="ok"}';
  expect((after[labels] ?? 0) - (before[labels] ?? 0)).toBe(1);
  await eventually(async () => (await samplesOf(app, "attachments_pending"))[""] === 0);
  expect((await samplesOf(app, "attachment_index_total"))['{result="ok"}']).toBeGreaterThan(0);
});

test("neither answers nor log lines from info on name anything of the provider's", async () => {
  const answers = [await upload(app, chatId), await upload(app, chatId, { ...textFile, type: "image/png" })];
  app.simulator.setState({ fail: { indexing: { times: 1, status: 400 } } });
  answers.push(await upload(app, chatId));
  const read = await app.call("GET", `/chats/${chatId}/attachments/${answers[0]?.body.id}`);
  const seen = JSON.stringify([...answers, read].map(({ body }) => body));
  const logged = app.logs.filter(({ level }) => level !== "debug").map((line) => JSON.stringify(line));
  expect((await cleanupEvents(app.db, chatId)).length).toBe(1);
  for (const text of [seen, ...logged]) expect(text).not.toMatch(/file-mock|vs_mock|vs-mock/);
  expect(logged.join("")).not.toContain("plan.txt");
});
