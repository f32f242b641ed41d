import type { FilePart } from "./form.ts";
import { tooLarge } from "./form.ts";
import { sniffedBytes } from "./sniff.ts";

/** A file's bytes, the first of which have been read. */
export interface OpenedBody {
  /** Up to 1024 bytes, fewer only of a shorter file. */
  readonly head: Buffer;
  /** All bytes, the head included; read once. Throws 413 when there are more than the limit. */
  readonly stream: AsyncIterable<Uint8Array>;
  /** Whether the stream has been read to its end. */
  readonly ended: () => boolean;
  /** Bytes read from the stream so far. */
  readonly bytes: () => number;
  /** What the stream gave, once it has ended; null when that was more than `keep`. */
  readonly copy: () => Buffer | null;
}

export interface BodyOptions {
  /** Largest file, in bytes. */
  readonly limit: number;
  /** Largest file of which a copy is kept, in bytes; 0 = none. */
  readonly keep: number;
}

/** Reads the head of a file, and the rest with whoever reads the stream: counted, and copied if asked. */
export const openBody = async (part: FilePart, { limit, keep }: BodyOptions): Promise<OpenedBody> => {
  const source = part.body[Symbol.asyncIterator]();
  const first: Uint8Array[] = [];
  let length = 0;
  while (length < sniffedBytes) {
    const next = await source.next();
    if (next.done === true) break;
    first.push(next.value);
    length += next.value.length;
    if (length > limit) throw tooLarge(limit);
  }
  let bytes = 0;
  let ended = false;
  let kept: Uint8Array[] | null = keep === 0 ? null : [];
  const passed = (chunk: Uint8Array): Uint8Array => {
    bytes += chunk.length;
    // The counter decides, not what the client said (attachments.md §3).
    if (bytes > limit) throw tooLarge(limit);
    if (bytes > keep) kept = null;
    kept?.push(chunk);
    return chunk;
  };
  async function* stream(): AsyncGenerator<Uint8Array> {
    for (const chunk of first.splice(0)) yield passed(chunk);
    for (let next = await source.next(); next.done !== true; next = await source.next()) {
      yield passed(next.value);
    }
    ended = true;
  }
  return {
    head: Buffer.concat(first).subarray(0, sniffedBytes),
    stream: stream(),
    ended: () => ended,
    bytes: () => bytes,
    copy: () => {
      const copy = kept === null ? null : Buffer.concat(kept);
      kept = null;
      return copy;
    },
  };
};
