import { Worker } from "node:worker_threads";
import { ExtractionError, type ExtractionFailure } from "./block.ts";
import { type ExtractionLimits, extractionLimits } from "./limits.ts";
import type { FromWorker, WorkerInput } from "./messages.ts";

export interface ExtractedFile {
  readonly contentType: string;
  /** Of the pieces together. */
  readonly bytes: number;
  readonly pieces: AsyncIterable<Uint8Array>;
}

export interface Extracted {
  readonly chunks: number;
  /** The document has more text than is kept. */
  readonly truncated: boolean;
}

/** How often the thread's memory is looked at; it can take some 100 MB in that time. */
const watchMs = 50;

/**
 * Extracts and chunks a file in a thread of its own, which is ended when it takes too long or too much.
 * `store` gets the chunks as JSON of `StoredChunk[]`, in order and one batch at a time. Throws
 * `ExtractionError`, what the pieces or `store` throw, and the signal's reason.
 */
export const runExtraction = async (
  file: ExtractedFile,
  store: (chunks: string) => Promise<void>,
  options: { readonly limits?: ExtractionLimits; readonly signal?: AbortSignal } = {},
): Promise<Extracted> => {
  const limits = options.limits ?? extractionLimits;
  options.signal?.throwIfAborted();
  if (file.bytes > limits.maxBytes) throw new ExtractionError("too_large");
  const thread = startThread({ contentType: file.contentType, bytes: file.bytes, limits });
  const onAbort = (): void => thread.fail(options.signal?.reason);
  options.signal?.addEventListener("abort", onAbort, { once: true });
  try {
    const feeding = feed(thread, file);
    for (;;) {
      const message = await thread.next();
      if ("chunks" in message) await store(message.chunks);
      else if ("failure" in message) throw new ExtractionError(message.failure);
      else {
        await feeding;
        return { chunks: message.count, truncated: message.truncated };
      }
    }
  } finally {
    options.signal?.removeEventListener("abort", onAbort);
    await thread.end();
  }
};

const feed = async (thread: Thread, { bytes, pieces }: ExtractedFile): Promise<void> => {
  let left = bytes;
  try {
    for await (const piece of pieces) {
      left -= piece.length;
      if (left < 0) throw new ExtractionError("malformed");
      if (!thread.send(piece)) return;
    }
    thread.send(null);
  } catch (error) {
    thread.fail(error);
  }
};

interface Thread {
  /** False when the thread has ended. */
  send(piece: Uint8Array | null): boolean;
  next(): Promise<FromWorker>;
  fail(cause: unknown): void;
  end(): Promise<void>;
}

const openWorker = (input: WorkerInput): Worker => {
  const worker = new Worker(new URL("./worker.ts", import.meta.url), {
    workerData: input,
    env: {},
    execArgv: [],
    // What libraries print could be content.
    stdout: true,
    stderr: true,
    resourceLimits: {
      maxOldGenerationSizeMb: input.limits.heapMb,
      // Collections are helped by threads as urgent as streams: fewer of them, and a delta gap of p99 +8.6 ms
      // while a book is extracted on 2 cores; +10.7 with 32, +9.9 with 8 (`bench retrieval`).
      maxYoungGenerationSizeMb: 64,
      stackSizeMb: 4,
    },
  });
  worker.stdout.resume();
  worker.stderr.resume();
  return worker;
};

const startThread = (input: WorkerInput): Thread => {
  const worker = openWorker(input);
  const inbox: FromWorker[] = [];
  let failed: { readonly cause: unknown } | undefined;
  let wake = (): void => {};
  const fail = (cause: unknown): void => {
    failed ??= { cause };
    wake();
    void worker.terminate();
  };
  const give = (failure: ExtractionFailure, cause?: unknown): void =>
    fail(new ExtractionError(failure, cause));
  const limits = watchLimits(worker, input.limits, give);
  worker.on("message", (message: FromWorker) => {
    inbox.push(message);
    // Storing what is extracted takes no time of the thread.
    if (!("chunks" in message)) limits.stop();
    wake();
  });
  worker.on("error", (error: Error & { code?: string }) =>
    give(error.code === "ERR_WORKER_OUT_OF_MEMORY" ? "memory_limit" : "malformed", error),
  );
  // A message that tells the end comes before this event.
  const exited = new Promise<void>((resolve) => {
    worker.once("exit", () => {
      if (!inbox.some((message) => !("chunks" in message))) give("crashed");
      resolve();
    });
  });
  return {
    send: (piece) => {
      if (failed !== undefined) return false;
      // A copy of its own: a view would take along the whole buffer it looks at.
      const own = piece === null ? null : new Uint8Array(piece);
      worker.postMessage(own, own === null ? [] : [own.buffer]);
      return true;
    },
    next: async () => {
      for (;;) {
        const message = inbox.shift();
        if (failed !== undefined) throw failed.cause;
        if (message !== undefined) return message;
        await new Promise<void>((resolve) => {
          wake = resolve;
        });
      }
    },
    fail,
    end: async () => {
      limits.stop();
      await worker.terminate();
      await exited;
    },
  };
};

/** Tells of the first limit that is passed, until stopped. */
const watchLimits = (
  worker: Worker,
  limits: ExtractionLimits,
  give: (failure: ExtractionFailure) => void,
): { stop(): void } => {
  const deadline = setTimeout(() => give("time_limit"), limits.timeMs);
  const watch = setInterval(() => {
    takenBytes(worker).then((taken) => {
      if (taken > limits.memoryMb * 1_048_576) give("memory_limit");
    }, ended);
  }, watchMs);
  return {
    stop: () => {
      clearTimeout(deadline);
      clearInterval(watch);
    },
  };
};

const ended = (): void => {};

/** Of heap and buffers: the heap limit does not count those in which libraries inflate what they read. */
const takenBytes = async (worker: Worker): Promise<number> => {
  const { total_heap_size: heap, external_memory: external } = await worker.getHeapStatistics();
  return heap + external;
};
