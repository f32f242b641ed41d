import { randomUUID } from "node:crypto";
import { connect, type Socket } from "node:net";
import { expect } from "vitest";
import { overlay, type Tree } from "../../src/config/tree.ts";
import type { Db } from "../../src/db/pool.ts";
import { type Answer, startTestApp, type TestApp, type TestAppOptions } from "../support/app.ts";
import { type Caller, callers } from "../support/config.ts";

/** Files lie at the simulator, over HTTP, as they would at a provider; nobody delivers the events of cleanup. */
export const storageConfig: Tree = {
  role: "api",
  providers: { sim: { storage_kind: "openai" } },
  rag: { index_wait_secs: 5 },
};

export const startUploadApp = (options: TestAppOptions = {}): Promise<TestApp> =>
  startTestApp({ ...options, config: overlay(storageConfig, options.config ?? {}) as Tree });

/** A file as it stands in a form; a header of null is left out. */
export interface Sent {
  readonly name?: string;
  readonly filename?: string | null;
  readonly type?: string | null;
  readonly bytes: string | Uint8Array;
}

export const textFile: Sent = { filename: "plan.txt", type: "text/plain", bytes: "Two items are due." };

export const bytesOf = (content: string | Uint8Array): Buffer =>
  typeof content === "string" ? Buffer.from(content, "utf8") : Buffer.from(content);

export const boundary = "----boundary-of-the-test";

/** The parts of a form without its end. */
export const partOf = (file: Sent): Buffer => {
  const { name = "file", filename = "plan.txt", type = "text/plain", bytes } = file;
  const disposition = `form-data; name="${name}"${filename === null ? "" : `; filename="${filename}"`}`;
  const typeLine = type === null ? "" : `Content-Type: ${type}\r\n`;
  const head = `--${boundary}\r\nContent-Disposition: ${disposition}\r\n${typeLine}\r\n`;
  return Buffer.concat([Buffer.from(head, "utf8"), bytesOf(bytes), Buffer.from("\r\n")]);
};

export const formOf = (...files: readonly Sent[]): Buffer =>
  Buffer.concat([...files.map(partOf), Buffer.from(`--${boundary}--\r\n`)]);

export interface UploadOptions {
  readonly caller?: Caller;
  readonly headers?: Record<string, string>;
  /** Without a length: in chunks. */
  readonly chunked?: boolean;
}

type Served = Pick<TestApp, "base">;

/** Sends a form and resolves with the answer. */
export const sendForm = async (
  app: Served,
  chatId: string,
  form: Buffer,
  { caller = callers.ann, headers = {}, chunked = false }: UploadOptions = {},
): Promise<Answer> => {
  const response = await fetch(`${app.base}/chats/${chatId}/attachments`, {
    method: "POST",
    headers: {
      authorization: `Bearer ${caller.token}`,
      "content-type": `multipart/form-data; boundary=${boundary}`,
      ...headers,
    },
    body: chunked ? new Blob([new Uint8Array(form)]).stream() : new Uint8Array(form),
    ...(chunked ? { duplex: "half" } : {}),
  } as RequestInit);
  const text = await response.text();
  return {
    status: response.status,
    headers: response.headers,
    body: /json/.test(response.headers.get("content-type") ?? "") ? JSON.parse(text) : text,
  };
};

/** Uploads one file. */
export const upload = (
  app: Served,
  chatId: string,
  file: Sent = textFile,
  options: UploadOptions = {},
): Promise<Answer> => sendForm(app, chatId, formOf(file), options);

export const problemOf = ({ status, body }: Answer): string => `${status} ${body.code} ${body.title}`;

/** A request written by hand, piece by piece. */
export interface RawUpload {
  readonly socket: Socket;
  /** What the server has answered, once it has closed the connection. */
  readonly closed: Promise<string>;
}

export const openRawUpload = async (
  app: Served,
  chatId: string,
  headers: readonly string[],
  caller: Caller = callers.ann,
): Promise<RawUpload> => {
  const { hostname, port } = new URL(app.base);
  const socket = connect({ host: hostname, port: Number(port) });
  const { promise, resolve } = Promise.withResolvers<string>();
  let text = "";
  socket.on("data", (chunk: Buffer) => {
    text += chunk.toString("utf8");
    // A problem is complete with its trace id: a client that has read it sends no more.
    if (text.includes('"trace_id"')) socket.end();
  });
  // The server may reset a connection whose client goes on; what it said before counts.
  socket.on("error", () => {});
  socket.on("close", () => resolve(text));
  const lines = [
    `POST /v1/chats/${chatId}/attachments HTTP/1.1`,
    `host: ${hostname}`,
    `authorization: Bearer ${caller.token}`,
    ...headers,
  ];
  socket.write(`${lines.join("\r\n")}\r\n\r\n`);
  return { socket, closed: promise };
};

export const formType = `content-type: multipart/form-data; boundary=${boundary}`;

/** Status and body of the first answer on a raw connection. */
export const answerOf = (text: string): { status: number; body: Record<string, unknown> } => {
  const [head = "", body = ""] = text.split(/\r\n\r\n(.*)/s);
  return { status: Number(head.split(" ", 2)[1]), body: body === "" ? {} : JSON.parse(body) };
};

export interface Row {
  readonly id: string;
  readonly status: string;
  readonly error_code: string | null;
  readonly provider_file_id: string | null;
  readonly cleanup_status: string | null;
  readonly size_bytes: bigint;
  readonly content_type: string;
  readonly filename: string;
  readonly deleted_at: string | null;
  readonly img_thumbnail: Buffer | null;
}

export const rowsOf = async (db: Db, chatId: string): Promise<Row[]> =>
  (await db.query<Row>("select * from attachments where chat_id = $1 order by created_at, id", [chatId]))
    .rows;

/** The only row of a chat. */
export const onlyRow = async (db: Db, chatId: string): Promise<Row> => {
  const rows = await rowsOf(db, chatId);
  expect(rows).toHaveLength(1);
  return rows[0] as Row;
};

/** Cleanup events of a chat not yet delivered, oldest first. */
export const cleanupEvents = async (
  db: Db,
  chatId: string,
): Promise<{ kind: string; event: Record<string, unknown> }[]> =>
  (
    await db.query<{ kind: string; event: Record<string, unknown> }>(
      `select kind, payload::jsonb as event
       from outbox_message
       where kind in ('attachment_cleanup', 'chat_cleanup')
         and payload::jsonb ->> 'chat_id' = $1
       order by id`,
      [chatId],
    )
  ).rows;

export const storeRows = async (
  db: Db,
  chatId: string,
): Promise<{ id: string; vector_store_id: string | null; file_count: number }[]> =>
  (
    await db.query<{ id: string; vector_store_id: string | null; file_count: number }>(
      "select id, vector_store_id, file_count from chat_vector_stores where chat_id = $1",
      [chatId],
    )
  ).rows;

/** The samples of a metric by their labels, as the process exports them. */
export const samplesOf = async (app: TestApp, name: string): Promise<Record<string, number>> => {
  const lines = (await app.app.metrics.render()).split("\n");
  const found = lines.flatMap((line) => {
    const match = /^(\w+?)(\{[^}]*\})? ([\d.e+-]+)$/.exec(line);
    return match?.[1]?.endsWith(name) ? [[match[2] ?? "", Number(match[3])] as const] : [];
  });
  return Object.fromEntries(found);
};

/** A gate nobody has used. */
export const newGate = (): string => `gate-${randomUUID()}`;

/** Takes every programmed failure back. Ids go on: no provider gives one twice. */
export const calm = ({ simulator }: Pick<TestApp, "simulator">): void => {
  const none = Object.fromEntries(
    ["upload", "store_creation", "indexing", "poll", "deletion", "store_deletion"].map((name) => [
      name,
      null,
    ]),
  );
  simulator.setState({ fail: none, indexing: { status: "completed", polls: 0 } });
  simulator.clearRequests();
};

/** What the simulator holds of a chat: its files, and the stores they are in. */
export const heldOf = ({ simulator }: Pick<TestApp, "simulator">, chatId: string) => {
  const held = simulator.held();
  const files = held.files.filter(({ filename }) => filename.startsWith(chatId));
  const ids = new Set(files.map(({ id }) => id));
  return {
    files,
    vector_stores: held.vector_stores.filter((store) => store.files.some((id) => ids.has(id))),
  };
};
