import { randomBytes } from "node:crypto";
import { invariant } from "../../lib/assert.ts";
import type { StorageUpload } from "../storage-contract.ts";

/** A form on its way: read once, piece by piece. */
export interface MultipartUpload {
  readonly contentType: string;
  readonly body: AsyncIterable<Uint8Array>;
  /** Bytes of the file read so far. */
  readonly bytes: number;
  /** The source is waited for. */
  readonly isWaiting: boolean;
  /** What the source threw; null while it threw nothing. */
  readonly sourceError: { readonly error: unknown } | null;
  /** Nobody reads on: a source that is waited for is waited for no longer. Idempotent. */
  stop(): void;
}

const lineBreaks = /[\r\n]/;

/**
 * The form of `POST /files` (providers.md §9): `purpose`, then the file. At most one piece of the source is
 * held. `onFailed` hears of a source that throws, or brings more than `maxBytes`, before the reader does:
 * the reader must not take it for a failure of the connection.
 */
export function multipartUpload(
  file: StorageUpload,
  options: { readonly maxBytes: number; readonly onFailed: (cause: "source" | "size") => void },
): MultipartUpload {
  invariant(!lineBreaks.test(file.name + file.contentType), "a header has one line");
  const boundary = `mini-chat-${randomBytes(16).toString("hex")}`;
  const source = file.stream[Symbol.asyncIterator]();
  let stopped = false;
  let stopWaiting: () => void = () => {};
  let isWaiting = false;
  let bytes = 0;
  let sourceError: MultipartUpload["sourceError"] = null;

  const next = async (): Promise<Uint8Array | null> => {
    let result: IteratorResult<Uint8Array> | "stopped";
    isWaiting = true;
    try {
      // No race against one long-lived promise: that would hold every piece it has lost against.
      result = await new Promise<IteratorResult<Uint8Array> | "stopped">((resolve, reject) => {
        stopWaiting = () => resolve("stopped");
        if (stopped) stopWaiting();
        else source.next().then(resolve, reject);
      });
    } catch (error) {
      sourceError = { error };
      options.onFailed("source");
      throw error;
    } finally {
      isWaiting = false;
    }
    if (result === "stopped") throw new Error("the upload was given up");
    if (result.done === true) return null;
    bytes += result.value.length;
    if (bytes <= options.maxBytes) return result.value;
    options.onFailed("size");
    throw new Error("the file is too large");
  };

  const body = async function* (): AsyncGenerator<Uint8Array, void> {
    yield Buffer.from(head(boundary, file));
    for (;;) {
      const piece = await next();
      if (piece === null) break;
      if (piece.length > 0) yield piece;
    }
    yield Buffer.from(`\r\n--${boundary}--\r\n`);
  };

  return {
    contentType: `multipart/form-data; boundary=${boundary}`,
    body: { [Symbol.asyncIterator]: body },
    get bytes() {
      return bytes;
    },
    get isWaiting() {
      return isWaiting;
    },
    get sourceError() {
      return sourceError;
    },
    stop: () => {
      stopped = true;
      stopWaiting();
      // A source that is being waited for answers this once it has something, or never.
      void source.return?.().then(undefined, () => {});
    },
  };
}

const head = (boundary: string, { name, contentType }: StorageUpload): string =>
  [
    `--${boundary}`,
    'Content-Disposition: form-data; name="purpose"',
    "",
    "assistants",
    `--${boundary}`,
    `Content-Disposition: form-data; name="file"; filename="${name.replaceAll('"', "%22")}"`,
    `Content-Type: ${contentType}`,
    "",
    "",
  ].join("\r\n");
