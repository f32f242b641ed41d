import { open as openFile } from "node:fs/promises";
import { createLineFile, type Open } from "./line-file.ts";
import { type Delivery, PublishError, type Sink } from "./sink.ts";

interface Group {
  readonly lines: string[];
  readonly written: Promise<void>;
}

export interface FileSinkOptions {
  readonly path: string;
  /** The file is set aside before it grows beyond this. Never when absent. */
  readonly maxBytes?: number | undefined;
  readonly open?: Open | undefined;
}

/**
 * Appends one JSON object per line to a file: `queue`, `idempotency_key`, `message_id` and the `event`
 * unchanged. A delivery counts only after `fdatasync`; deliveries that arrive while one group is being
 * written share the next write and the next flush. Processes may share the file. A line cut off by a full
 * disk is taken back; one cut off by a crash is ended before anything is appended, so readers skip it, and
 * its event comes again.
 *
 * A full file is renamed to `{path}.{time}-{n}-{random}` and a new one begun; no event is ever deleted.
 */
export const createFileSink = ({
  path,
  maxBytes = Number.POSITIVE_INFINITY,
  open = openFile,
}: FileSinkOptions): Sink => {
  const file = createLineFile({ path, maxBytes, open });
  let writing: Promise<void> = Promise.resolve();
  let waiting: Group | null = null;

  const write = async (lines: readonly string[]): Promise<void> => {
    try {
      await file.append(lines.join(""));
    } catch (error) {
      throw new PublishError("transient", `cannot write ${path}${codeOf(error)}`, error);
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
      await file.close();
    },
  };
};

const codeOf = (error: unknown): string =>
  error instanceof Error && "code" in error ? ` (${error.code})` : "";

// Keys and ids hold no character that JSON escapes; the payload is JSON already and has no line feed.
const toLine = ({ queue, idempotencyKey, messageId, payload }: Delivery): string =>
  `{"queue":"${queue}","idempotency_key":${JSON.stringify(idempotencyKey)},"message_id":"${messageId}","event":${payload}}\n`;
