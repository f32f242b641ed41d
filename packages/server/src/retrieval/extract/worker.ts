import { setPriority } from "node:os";
import { parentPort, workerData } from "node:worker_threads";
import { createChunker } from "../chunk.ts";
import { vectorOf } from "../words.ts";
import { type Block, EnoughText, ExtractionError } from "./block.ts";
import { extract } from "./extract.ts";
import type { ExtractionLimits } from "./limits.ts";
import type { FromWorker, StoredChunk, WorkerInput } from "./messages.ts";

/** One file, then the end of the thread: nothing a document breaks outlives it. */

/** Chunks per message: some 100 KiB, which the main thread passes on as they are. */
const batchSize = 40;

const { contentType, bytes: size, limits }: WorkerInput = workerData;

const receive = (port: NonNullable<typeof parentPort>): Promise<Uint8Array> =>
  new Promise((resolve) => {
    const file = new Uint8Array(size);
    let filled = 0;
    port.on("message", (piece: Uint8Array | null) => {
      if (piece !== null) {
        file.set(piece, filled);
        filled += piece.length;
        return;
      }
      port.removeAllListeners("message");
      resolve(file.subarray(0, filled));
    });
  });

const collector = (send: (message: FromWorker) => void, { maxCharacters }: ExtractionLimits) => {
  const chunker = createChunker();
  let batch: StoredChunk[] = [];
  let count = 0;
  let characters = 0;
  const flush = (): void => {
    if (batch.length > 0) send({ chunks: JSON.stringify(batch) });
    batch = [];
  };
  const store = (chunks: ReturnType<typeof chunker.end>): void => {
    for (const { text, position, overlap } of chunks) {
      batch.push({ no: count, content: text, overlap, words: vectorOf(text), ...position });
      count += 1;
      if (batch.length === batchSize) flush();
    }
  };
  return {
    emit: ({ text, place }: Block): void => {
      const room = maxCharacters - characters;
      characters += text.length;
      store(chunker.add({ text: text.slice(0, room).toWellFormed(), place }));
      if (characters > maxCharacters) throw new EnoughText();
    },
    end: (): number => {
      store(chunker.end());
      flush();
      return count;
    },
  };
};

const run = async (port: NonNullable<typeof parentPort>): Promise<void> => {
  // On Linux a priority belongs to a thread: streams go first where cores are scarce.
  if (process.platform === "linux") setPriority(0, 10);
  const file = await receive(port);
  const send = (message: FromWorker): void => port.postMessage(message);
  const collect = collector(send, limits);
  let truncated = false;
  try {
    await extract(contentType, file, collect.emit, limits);
  } catch (error) {
    if (error instanceof EnoughText) truncated = true;
    else return send({ failure: error instanceof ExtractionError ? error.failure : "malformed" });
  }
  const count = collect.end();
  send(count === 0 ? { failure: "no_text" } : { count, truncated });
};

if (parentPort !== null) await run(parentPort);
