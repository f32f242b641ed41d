import type { IncomingMessage } from "node:http";
import type { Readable } from "node:stream";
import { Dicer } from "@fastify/busboy";
import { AppError } from "../errors.ts";
import { parseDisposition } from "./disposition.ts";

/** The part of a form named `file`. */
export interface FilePart {
  readonly filename: string | null;
  readonly contentType: string | null;
  /**
   * Read once, with back-pressure to the socket. Throws 400 when the form ends inside the part, 413 over the
   * limit of the whole body, and the reason of the signal when that fires.
   */
  readonly body: AsyncIterable<Uint8Array>;
}

/** A form on its way in. */
export interface Form {
  /** The first part named `file`; parts before it are skipped. Throws 400 and 413 `AppError`s. */
  readonly file: Promise<FilePart>;
  /** Throws away what has not been read, so that the client can read the answer. Idempotent. */
  discard(): void;
}

export const refusedForm = (title: string, detail: string): AppError =>
  new AppError("invalid_request", { title, detail });

const boundaryParameter = /;\s*boundary=(?:"([^"]{1,70})"|([^\s;"]{1,70}))\s*(?:;|$)/i;

/** The boundary of a `Content-Type`. Throws 400, title Missing Boundary (attachments.md §3.2). */
export const boundaryOf = (contentType: string | undefined): string => {
  const isForm = /^\s*multipart\/form-data\s*(?:;|$)/i.test(contentType ?? "");
  const match = isForm ? boundaryParameter.exec(contentType ?? "") : null;
  const boundary = match?.[1] ?? match?.[2];
  if (boundary !== undefined) return boundary;
  throw refusedForm("Missing Boundary", "The Content-Type must be multipart/form-data with a boundary.");
};

export const tooLarge = (limit: number): AppError =>
  new AppError("file_too_large", { detail: `The file is larger than ${limit} bytes.` });

export interface FormOptions {
  readonly boundary: string;
  /** Of the whole body, in bytes. */
  readonly bodyLimit: number;
  /** Fires when nobody waits for the answer any more; its reason is what reading throws. */
  readonly signal: AbortSignal;
}

/** Bytes behind the limit a client may send to read its answer; who sends more gets none. */
const maxDiscarded = 64 * 1_048_576;

/**
 * Begins to read a form. Besides what the socket has read, at most two of the parser's buffers of 64 KiB
 * are held; the parser stops the socket when nobody reads the part.
 */
export const openForm = (request: IncomingMessage, { boundary, bodyLimit, signal }: FormOptions): Form => {
  const { promise: file, resolve, reject } = Promise.withResolvers<FilePart>();
  file.catch(() => {});
  const parser = new Dicer({ boundary });
  let part: Readable | undefined;
  let failure: unknown;
  let over = false;
  const discard = (): void => {
    if (over) return;
    over = true;
    signal.removeEventListener("abort", onAbort);
    request.unpipe(parser);
    // The part must not wait for bytes that never come; what was read of it stays readable.
    part?.destroy();
    request.resume();
  };
  const fail = (error: unknown): void => {
    failure ??= error;
    reject(error);
    part?.destroy(error instanceof Error ? error : new Error("the form cannot be read"));
    discard();
  };
  const onAbort = (): void => fail(signal.reason);
  let received = 0;
  request.on("data", (chunk: Buffer) => {
    received += chunk.length;
    if (received > bodyLimit) fail(tooLarge(bodyLimit));
    if (received > bodyLimit + maxDiscarded) request.destroy();
  });
  parser.on("part", (next) => {
    // A part that nobody reads would stop the form, and its error the process.
    next.on("error", () => {});
    if (part !== undefined) return void next.resume();
    next.on("header", (header) => {
      const found = part === undefined ? headersOfFile(header) : null;
      if (found === null) return void next.resume();
      part = next;
      resolve({ ...found, body: read(next, () => failure ?? broken()) });
    });
  });
  parser.on("error", () => fail(broken()));
  parser.on("finish", () => {
    if (part === undefined) fail(refusedForm("Missing File", "The form has no part named file."));
  });
  if (signal.aborted) onAbort();
  else {
    signal.addEventListener("abort", onAbort);
    request.pipe(parser);
  }
  return { file, discard };
};

const broken = (): AppError => refusedForm("Multipart Error", "The form is malformed or ends early.");

/** The bytes of a part; the parser's own errors are told as ours. */
async function* read(part: Readable, failure: () => unknown): AsyncGenerator<Uint8Array> {
  try {
    for await (const chunk of part) yield chunk;
  } catch {
    throw failure();
  }
}

const headersOfFile = (header: object): Omit<FilePart, "body"> | null => {
  const of = (name: string): string | null => {
    const values: unknown = Reflect.get(header, name);
    return Array.isArray(values) && typeof values[0] === "string" ? values[0] : null;
  };
  const disposition = parseDisposition(of("content-disposition") ?? "");
  if (disposition?.name !== "file") return null;
  const contentType = of("content-type")?.trim();
  return { filename: disposition.filename, contentType: contentType || null };
};
