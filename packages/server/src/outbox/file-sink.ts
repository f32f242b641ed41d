import { type FileHandle, open as openFile, rename, stat } from "node:fs/promises";
import { dirname } from "node:path";
import { type Delivery, PublishError, type Sink } from "./sink.ts";

interface Group {
  readonly lines: string[];
  readonly written: Promise<void>;
}

type Open = (path: string, flags: string) => Promise<FileHandle>;

export interface FileSinkOptions {
  readonly path: string;
  /** The file is set aside before it grows beyond this. Never when absent. */
  readonly maxBytes?: number | undefined;
  readonly open?: Open | undefined;
}

/**
 * Appends one JSON object per line to a file: `queue`, `idempotency_key`, `message_id` and the `event`
 * unchanged. A delivery counts only after `fdatasync`; deliveries that arrive while one group is being
 * written share the next write and the next flush. A line cut off by a crash is ended before anything
 * is appended, so readers skip at most one unreadable line, whose event comes again. Processes may
 * share the file: a group is one write, which the system does not interleave with others.
 *
 * A full file is renamed to `{path}.{time}-{pid}-{n}` and a new one begun; nothing is ever deleted. Whoever
 * else writes to it, or a log rotation of the system that has moved it, is noticed at the next group.
 */
export const createFileSink = ({ path, maxBytes, open = openFile }: FileSinkOptions): Sink => {
  let file: Promise<FileHandle> | null = null;
  let writing: Promise<void> = Promise.resolve();
  let waiting: Group | null = null;

  const opened = (): Promise<FileHandle> => {
    file ??= openForAppend(path, open).catch((error: unknown) => {
      file = null;
      throw error;
    });
    return file;
  };

  const write = async (lines: readonly string[]): Promise<void> => {
    try {
      const text = lines.join("");
      let handle = await opened();
      if (await setAside(handle, path, Buffer.byteLength(text), maxBytes)) {
        file = null;
        await handle.close();
        handle = await opened();
      }
      await writeWhole(handle, text);
      await handle.datasync();
    } catch (error) {
      // Part of a line may be on disk: opening again ends it.
      const broken = file;
      file = null;
      await broken?.then((handle) => handle.close()).catch(() => {});
      throw new PublishError("transient", `cannot write ${path}`, error);
    }
  };

  const join = (lines: readonly string[]): Promise<void> => {
    if (waiting === null) {
      const group: string[] = [];
      const written = writing.then(() => {
        waiting = null;
        return write(group);
      });
      waiting = { lines: group, written };
      writing = written.catch(() => {});
    }
    waiting.lines.push(...lines);
    return waiting.written;
  };

  return {
    grouping: "batch",
    publish: (deliveries) => join(deliveries.map(toLine)),
    close: async () => {
      await writing;
      const handle = await file?.catch(() => null);
      file = null;
      await handle?.close();
    },
  };
};

// Keys and ids hold no character that JSON escapes; the payload is JSON already and has no line feed.
const toLine = ({ queue, idempotencyKey, messageId, payload }: Delivery): string =>
  `{"queue":"${queue}","idempotency_key":${JSON.stringify(idempotencyKey)},"message_id":"${messageId}","event":${payload}}\n`;

const openForAppend = async (path: string, open: Open): Promise<FileHandle> => {
  const handle = await open(path, "a+");
  try {
    const { size } = await handle.stat();
    const last = Buffer.alloc(1);
    if (size > 0) await handle.read(last, 0, 1, size - 1);
    if (size > 0 && last.toString() !== "\n") await writeWhole(handle, "\n");
    if (size === 0) await syncDirectory(dirname(path));
    return handle;
  } catch (error) {
    await handle.close();
    throw error;
  }
};

let renamed = 0;

const nullIfMissing = (error: NodeJS.ErrnoException): null => {
  if (error.code === "ENOENT") return null;
  throw error;
};

/**
 * Whether `handle` is no longer where the next group belongs: somebody has moved the file, or it is full
 * and was renamed now. A crash between the rename and the new file leaves nothing to mend.
 */
const setAside = async (
  handle: FileHandle,
  path: string,
  more: number,
  maxBytes = Number.POSITIVE_INFINITY,
): Promise<boolean> => {
  const [own, there] = await Promise.all([handle.stat(), stat(path).catch(nullIfMissing)]);
  if (there === null || there.ino !== own.ino || there.dev !== own.dev) return true;
  if (own.size === 0 || own.size + more <= maxBytes) return false;
  renamed += 1;
  const time = new Date().toISOString().replaceAll(/[:.]/g, "-");
  // Another process may be doing the same; then it is the other's new file that is moved, or none.
  await rename(path, `${path}.${time}-${process.pid}-${renamed}`).catch(nullIfMissing);
  await syncDirectory(dirname(path));
  return true;
};

// In parts, another process could write between two of them.
const writeWhole = async (handle: FileHandle, text: string): Promise<void> => {
  const bytes = Buffer.from(text);
  const { bytesWritten } = await handle.write(bytes);
  if (bytesWritten < bytes.length) throw new Error(`wrote ${bytesWritten} of ${bytes.length} bytes`);
};

/** A new file survives a crash of the machine only once its directory entry does. */
const syncDirectory = async (path: string): Promise<void> => {
  const directory = await openFile(path, "r");
  await directory.sync().finally(() => directory.close());
};
