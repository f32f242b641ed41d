import { afterAll, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { type Answer, eventually, type TestApp } from "../support/app.ts";
import {
  answerOf,
  boundary,
  calm,
  formOf,
  formType,
  heldOf,
  openRawUpload,
  partOf,
  problemOf,
  rowsOf,
  type Sent,
  samplesOf,
  sendForm,
  startUploadApp,
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

const xlsx: Sent = {
  filename: "sums.xlsx",
  type: "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
  bytes: Buffer.from("PK\x03\x04"),
};

/** Refused like this, and nothing of it is left: no row, no file. */
const expectRefused = async (refusal: string, request: () => Promise<Answer>): Promise<Answer> => {
  const answer = await request();
  expect(problemOf(answer)).toBe(refusal);
  expect(await rowsOf(app.db, chatId)).toEqual([]);
  expect(heldOf(app, chatId).files).toEqual([]);
  return answer;
};

describe("the form (attachments.md §3.2–4)", () => {
  test.each([
    "multipart/form-data",
    "multipart/form-data; boundary=",
    "application/json",
    "text/plain",
    ";",
    "a/b/c",
    "application/x-www-form-urlencoded",
  ])("Content-Type %s: Missing Boundary", async (type) => {
    await expectRefused("400 invalid_request Missing Boundary", () =>
      sendForm(app, chatId, formOf(textFile), { headers: { "content-type": type } }),
    );
  });

  test.each<[string, Buffer]>([
    ["no part", Buffer.from(`--${boundary}--\r\n`)],
    ["another name", formOf({ ...textFile, name: "document" })],
    ["the name in other letters", formOf({ ...textFile, name: "File" })],
    ["no name", Buffer.from(`--${boundary}\r\nContent-Type: text/plain\r\n\r\nx\r\n--${boundary}--\r\n`)],
    [
      "a part that is no form data",
      Buffer.from(
        `--${boundary}\r\nContent-Disposition: attachment; name="file"\r\n\r\nx\r\n--${boundary}--\r\n`,
      ),
    ],
  ])("%s: Missing File", async (_name, form) => {
    await expectRefused("400 invalid_request Missing File", () => sendForm(app, chatId, form));
  });

  test.each<[string, Buffer]>([
    ["nothing", Buffer.alloc(0)],
    ["no form at all", Buffer.from("Two items are due.")],
    ["another boundary", Buffer.from(formOf(textFile).toString().replaceAll(boundary, "other"))],
    ["a form that ends in its headers", Buffer.from(`--${boundary}\r\nContent-Disp`)],
    ["a form without its end, before the file", partOf({ name: "note", bytes: "x" })],
  ])("%s: Multipart Error", async (_name, form) => {
    await expectRefused("400 invalid_request Multipart Error", () => sendForm(app, chatId, form));
  });

  test.each<[string, Sent]>([
    ["none", { ...textFile, type: null }],
    ["an empty one", { ...textFile, type: "" }],
    ["blanks", { ...textFile, type: "  " }],
  ])("a part with %s: Missing Content-Type", async (_name, file) => {
    await expectRefused("400 invalid_request Missing Content-Type", () => upload(app, chatId, file));
  });

  test("a part that ends early: Multipart Error, and the upload counts as interrupted", async () => {
    const form = partOf({ ...textFile, bytes: "x".repeat(300_000) });
    const sent = await openRawUpload(app, chatId, [formType, `content-length: ${form.length}`]);
    sent.socket.write(form.subarray(0, -10));
    await eventually(async () => (await rowsOf(app.db, chatId)).length === 1);
    sent.socket.write(form.subarray(-10));
    expect(answerOf(await sent.closed)).toMatchObject({ status: 400, body: { title: "Multipart Error" } });
    expect(await rowsOf(app.db, chatId)).toMatchObject([
      { status: "failed", error_code: "upload_interrupted", provider_file_id: null },
    ]);
  });

  test("a part that ends before anything is stored: Multipart Error, and no row", async () => {
    const form = partOf({ ...textFile, bytes: "x".repeat(500) });
    await expectRefused("400 invalid_request Multipart Error", () => sendForm(app, chatId, form));
  });
});

describe("types and content (§5)", () => {
  test.each<[string, Sent]>([
    ["a type that is not in the table", { ...textFile, type: "application/zip" }],
    [
      "a general type with an unknown extension",
      { filename: "a.exe", type: "application/octet-stream", bytes: "x" },
    ],
    ["a general type without a name", { filename: null, type: "application/octet-stream", bytes: "x" }],
    ["an executable named .pdf", { filename: "a.pdf", type: "application/pdf", bytes: "MZ\x90\0" }],
    ["a PDF declared as an image", { filename: "a.png", type: "image/png", bytes: "%PDF-1.7" }],
    ["HTML declared as an image", { filename: "a.png", type: "image/png", bytes: "<svg onload=alert(1)>" }],
    ["a text declared as a document of an office", { ...xlsx, bytes: "a,b\n" }],
    ["an archive declared as text", { ...textFile, bytes: Buffer.from("PK\x03\x04\0\0") }],
    ["an image declared as text", { ...textFile, bytes: Buffer.from("\x89PNG\r\n\x1a\n\0\0", "latin1") }],
    [
      "a ZIP declared as PDF",
      { filename: "a.pdf", type: "application/pdf", bytes: Buffer.from("PK\x03\x04") },
    ],
    ["a TIFF declared as JPEG", { filename: "a.jpg", type: "image/jpeg", bytes: Buffer.from("II*\0\x08\0") }],
  ])("%s: 415", async (_name, file) => {
    await expectRefused("415 unsupported_file_type unsupported_file_type", () => upload(app, chatId, file));
  });

  test("the refusal names the normalized type", async () => {
    const { body } = await upload(app, chatId, { ...textFile, type: "Application/ZIP; x=y" });
    expect(body.detail).toContain("application/zip");
  });

  test("a file that is two things is what it was declared as, and nothing else reads it here", async () => {
    const polyglot = Buffer.from("GIF89a/*\0*/=1;%PDF-1.7\n");
    const gif = await upload(app, chatId, { filename: "a.gif", type: "image/gif", bytes: polyglot });
    expect([gif.status, gif.body.content_type, gif.body.img_thumbnail]).toEqual([
      201,
      "image/gif",
      undefined,
    ]);
    const pdf = await upload(app, chatId, { filename: "a.pdf", type: "application/pdf", bytes: polyglot });
    expect([pdf.status, pdf.body.content_type]).toEqual([201, "application/pdf"]);
  });

  test("CSV is text where it is allowed, else 415", async () => {
    const csv = { filename: "a.csv", type: "text/csv", bytes: "a,b\n1,2\n" };
    const strict = await startUploadApp({
      database: app.database,
      simulator: app.simulator,
      config: { rag: { allow_csv_upload: false } },
    });
    try {
      await expectRefused("415 unsupported_file_type unsupported_file_type", () =>
        upload(strict, chatId, csv),
      );
      expect((await upload(app, chatId, csv)).body.content_type).toBe("text/plain");
    } finally {
      await strict.close();
    }
  });

  test("an empty file: Validation Error", async () => {
    for (const file of [
      { ...textFile, bytes: "" },
      { filename: "a.png", type: "image/png", bytes: "" },
    ]) {
      await expectRefused("400 invalid_request Validation Error", () => upload(app, chatId, file));
    }
  });
});

test("metrics: exactly one result for each upload that got past the form, by kind", async () => {
  const results = async (): Promise<Record<string, number>> => samplesOf(app, "attachment_upload_total");
  const before = await results();
  await sendForm(app, chatId, formOf({ ...textFile, name: "x" }));
  await upload(app, chatId, { ...textFile, type: null });
  await upload(app, chatId, { ...textFile, type: "application/zip" });
  await upload(app, chatId, { ...textFile, type: "image/tiff" });
  await upload(app, chatId, { ...textFile, bytes: "" });
  await upload(app, chatId, { ...textFile, bytes: Buffer.alloc(27_000_000) });
  const after = await results();
  const added = Object.entries(after).flatMap(([labels, value]) => {
    const more = value - (before[labels] ?? 0);
    return more === 0 ? [] : [`${labels} ${more}`];
  });
  expect(added.toSorted()).toEqual([
    '{kind="document",result="file_too_large"} 1',
    '{kind="document",result="other"} 1',
    '{kind="document",result="unsupported_type"} 1',
    '{kind="image",result="unsupported_type"} 1',
  ]);
  const rejected = await samplesOf(app, "upload_rejected_total");
  for (const reason of ["type", "max_size"]) expect(rejected[`{reason="${reason}"}`]).toBeGreaterThan(0);
});

test("a refused client may go on with the same connection pool: every answer is complete", async () => {
  for (let round = 0; round < 20; round += 1) {
    const answer = await upload(app, chatId, {
      ...textFile,
      type: "application/zip",
      bytes: Buffer.alloc(3_000_000),
    });
    expect(answer.status).toBe(415);
  }
});
