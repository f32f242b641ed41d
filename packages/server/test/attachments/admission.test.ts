import sharp from "sharp";
import { afterAll, beforeAll, beforeEach, describe, expect, test } from "vitest";
import type { Tree } from "../../src/config/tree.ts";
import type { Answer, TestApp } from "../support/app.ts";
import { callers, modelEntry } from "../support/config.ts";
import {
  answerOf,
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

const config = (id: string, general: Tree): Tree => {
  const entry = modelEntry(id);
  return { ...entry, general_config: { ...(entry["general_config"] as Tree), ...general } };
};

const noTools: Tree = {
  web_search: false,
  file_search: false,
  image_generation: false,
  code_interpreter: false,
  mcp: false,
};

const catalog = (killSwitches: Tree = {}): Tree => ({
  plugins: {
    model_policy: {
      static: {
        model_catalog: [
          modelEntry("standard", { preference: { is_default: true, sort_order: 0 } }),
          config("small", { max_file_size_mb: 1 }),
          config("no-code", { tool_support: { ...noTools, file_search: true } }),
          config("small-no-code", { max_file_size_mb: 1, tool_support: noTools }),
          { ...config("bare", { tool_support: noTools }), provider_id: "bare" },
        ],
        kill_switches: killSwitches,
      },
    },
  },
  providers: {
    sim: { storage_kind: "openai" },
    bare: { kind: "openai_responses", host: "127.0.0.1", use_http: true, storage_kind: "none" },
  },
});

let app: TestApp;
let chatId: string;
beforeAll(async () => {
  app = await startUploadApp({ config: catalog() });
});
afterAll(() => app.close());
beforeEach(async () => {
  calm(app);
  chatId = await app.createChat();
});

const png = (): Promise<Buffer> =>
  sharp({ create: { width: 8, height: 8, channels: 3, background: "teal" } })
    .png()
    .toBuffer();

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

describe("sizes (§3.6–7)", () => {
  test("the model's limit applies to both kinds; a length that says too much is refused before the body", async () => {
    const small = await app.createChat(callers.ann, { model: "small" });
    const image = { filename: "a.png", type: "image/png" };
    const mib = 1_048_576;
    for (const [file, bytes] of [
      [textFile, "x".repeat(mib + 1)],
      [image, Buffer.concat([await png(), Buffer.alloc(mib)])],
    ] as const) {
      const answer = await upload(app, small, { ...file, bytes });
      expect(problemOf(answer)).toBe("413 file_too_large file_too_large");
    }
    const fits = await upload(app, small, { ...textFile, bytes: "x".repeat(mib) });
    expect([fits.status, fits.body.size_bytes]).toEqual([201, mib]);
    const lying = await openRawUpload(app, small, [formType, `content-length: ${mib + 65_537}`]);
    lying.socket.write(partOf(textFile));
    expect(answerOf(await lying.closed)).toMatchObject({ status: 413, body: { code: "file_too_large" } });
  });

  test("the counter decides over what the client says: over the limit in the stream is 413, and nothing is stored", async () => {
    const small = await app.createChat(callers.ann, { model: "small" });
    const { status, body } = await upload(
      app,
      small,
      { ...textFile, bytes: "x".repeat(1_048_577) },
      { chunked: true },
    );
    expect([status, body.code]).toEqual([413, "file_too_large"]);
    expect(await rowsOf(app.db, small)).toMatchObject([
      { status: "failed", error_code: "file_too_large", provider_file_id: null, cleanup_status: null },
    ]);
    expect(heldOf(app, small).files).toEqual([]);
  });

  test("the limit of the body follows the configuration", async () => {
    const large = await startUploadApp({
      database: app.database,
      simulator: app.simulator,
      config: { rag: { uploaded_file_max_size_kb: 20_000 }, server: { body_limit_bytes: 65_536 } },
    });
    try {
      const bytes = Buffer.alloc(18_000_000, "x");
      expect((await upload(large, chatId, { ...textFile, bytes })).status).toBe(201);
      const more = await upload(large, chatId, { ...textFile, bytes: Buffer.alloc(20_480_001, "x") });
      expect(problemOf(more)).toBe("413 file_too_large file_too_large");
    } finally {
      await large.close();
    }
  });

  test("skipped parts are bounded by the body as a whole", async () => {
    const tiny = await startUploadApp({
      database: app.database,
      simulator: app.simulator,
      config: { rag: { uploaded_file_max_size_kb: 64, uploaded_image_max_size_kb: 64 } },
    });
    try {
      const padding = { name: "note", filename: null, type: null, bytes: Buffer.alloc(200_000, "x") };
      await expectRefused("413 file_too_large file_too_large", () =>
        sendForm(tiny, chatId, formOf(padding, textFile), { chunked: true }),
      );
    } finally {
      await tiny.close();
    }
  });
});

describe("what the chat's model and the policy allow (§3.1, §6)", () => {
  const unavailable = "Code interpreter is currently unavailable";

  test("a file only the code interpreter can use, for a model without it: 400", async () => {
    const chat = await app.createChat(callers.ann, { model: "no-code" });
    const answer = await upload(app, chat, xlsx);
    expect(problemOf(answer)).toBe("400 invalid_request Validation Error");
    expect(answer.body.detail).toBe(unavailable);
    expect((await upload(app, chat)).status).toBe(201);
  });

  test("a model whose provider has no storage: 503 for every upload", async () => {
    const chat = await app.createChat(callers.ann, { model: "bare" });
    const answer = await upload(app, chat);
    expect(problemOf(answer)).toBe("503 service_unavailable service_unavailable");
    expect(answer.headers.get("retry-after")).toBe("5");
  });

  test("a model that is in the catalog no more: 503", async () => {
    const chat = await app.createChat(callers.ann, { model: "no-code" });
    const other = await startUploadApp({ database: app.database, simulator: app.simulator });
    try {
      expect(problemOf(await upload(other, chat))).toBe("503 service_unavailable service_unavailable");
    } finally {
      await other.close();
    }
  });

  test("kill switches: code interpreter and images; file search does not block uploads", async () => {
    const off = await startUploadApp({
      database: app.database,
      simulator: app.simulator,
      config: catalog({ disable_code_interpreter: true, disable_images: true, disable_file_search: true }),
    });
    try {
      const code = await expectRefused("400 invalid_request Validation Error", () =>
        upload(off, chatId, xlsx),
      );
      expect(code.body.detail).toBe(unavailable);
      expect(await samplesOf(off, "code_interpreter_disabled_total")).toEqual({ "": 1 });
      const image = { filename: "a.png", type: "image/png", bytes: await png() };
      await expectRefused("400 images_disabled images_disabled", () => upload(off, chatId, image));
      expect((await upload(off, chatId)).status).toBe(201);
    } finally {
      await off.close();
    }
  });
});

describe("the order of §3: of two reasons the first one is told", () => {
  const nowhere = "0195e2c4-7f10-7c3e-9a51-0c6b1f2d3e4f";
  const rows: readonly (readonly [string, string, (own: string) => Promise<Answer>])[] = [
    [
      "the chat before the form",
      "404 chat_not_found Chat not found",
      () => sendForm(app, nowhere, formOf(textFile), { headers: { "content-type": "text/plain" } }),
    ],
    [
      "the boundary before the parts",
      "400 invalid_request Missing Boundary",
      (own) => sendForm(app, own, Buffer.from("x"), { headers: { "content-type": "multipart/form-data" } }),
    ],
    [
      "the file before its type",
      "400 invalid_request Missing File",
      (own) => upload(app, own, { ...textFile, name: "other", type: null }),
    ],
    [
      "the content type before the table",
      "400 invalid_request Missing Content-Type",
      (own) => upload(app, own, { filename: "a.exe", type: null, bytes: "" }),
    ],
    [
      "the type before the size",
      "415 unsupported_file_type unsupported_file_type",
      (own) => upload(app, own, { ...textFile, type: "application/zip", bytes: "x".repeat(2_000_000) }),
    ],
    [
      "the size before the code interpreter",
      "413 file_too_large file_too_large",
      async () => {
        const chat = await app.createChat(callers.ann, { model: "small-no-code" });
        return upload(app, chat, { ...xlsx, bytes: Buffer.alloc(2_000_000) });
      },
    ],
  ];

  test.each(rows)("%s", async (_name, refusal, request) => {
    expect(problemOf(await request(chatId))).toBe(refusal);
  });
});
