import type { TenantId } from "../auth/actor.ts";
import type { Db } from "../db/pool.ts";
import { inTransaction } from "../db/tx.ts";
import { uuidV4 } from "../lib/id.ts";
import { startLoop } from "../lib/loop.ts";
import { type ClaimedFile, claimFile, giveBack, insertChunks, settleIndexing } from "./chunk-store.ts";
import { ExtractionError, type ExtractionFailure } from "./extract/block.ts";
import { type ExtractionLimits, extractionLimits } from "./extract/limits.ts";
import { type Extracted, runExtraction } from "./extract/run.ts";
import { readPiece } from "./store.ts";

/** Longer than an extraction may take; every stored batch begins it anew. */
const leaseSecs = 120;
/** A file that ends the process each time is not tried for ever. */
const maxAttempts = 3;

/** What became of a file, for log and metrics. */
export interface IndexedFile {
  readonly tenantId: TenantId;
  readonly fileId: string;
  readonly contentType: string;
  readonly ms: number;
  readonly result: Extracted | { readonly failure: ExtractionFailure };
}

export interface IndexerOptions {
  readonly limits?: ExtractionLimits;
  /** How often files whose process died are looked for. */
  readonly intervalMs?: number;
  readonly onError: (error: unknown) => void;
  readonly onIndexed?: (file: IndexedFile) => void;
}

/** Extracts and chunks the files that were added to a store, one at a time in a process. */
export interface LocalIndexer {
  /** Looks for files now; resolves when no more are waiting. Never rejects. */
  run(): Promise<void>;
  /** Ends the extraction under way; another process may take its file at once. */
  stop(): Promise<void>;
}

/** Indexes what waits, from now on. Every process that takes uploads has one. */
export const startIndexer = (db: Db, options: IndexerOptions): LocalIndexer => {
  const controller = new AbortController();
  const { signal } = controller;
  let again = false;
  let draining: Promise<void> | null = null;
  const drain = async (): Promise<void> => {
    do {
      again = false;
      while (!signal.aborted && (await indexNext(db, options, signal))) again = true;
    } while (again && !signal.aborted);
  };
  const run = (): Promise<void> => {
    again = true;
    draining ??= drain()
      .catch((error: unknown) => {
        if (!signal.aborted) options.onError(error);
      })
      .finally(() => {
        draining = null;
      });
    return draining;
  };
  const loop = startLoop(run, {
    intervalMs: options.intervalMs ?? 30_000,
    firstDelayMs: 0,
    onError: options.onError,
  });
  return {
    run,
    stop: async () => {
      controller.abort();
      await loop.stop();
      await draining;
    },
  };
};

/** Another process has taken the file over, or it was deleted: nothing more to do for this one. */
class ClaimLost extends Error {
  override name = "ClaimLost";
}

/** Indexes one waiting file of any tenant; false when there was none. */
const indexNext = async (db: Db, options: IndexerOptions, signal: AbortSignal): Promise<boolean> => {
  const claim = uuidV4();
  const file = await inTransaction(db, (tx) => claimFile(tx, claim, leaseSecs));
  if (file === undefined) return false;
  const { id: fileId, tenantId, contentType } = file;
  const begin = performance.now();
  try {
    const result = await index(db, file, claim, options.limits ?? extractionLimits, signal);
    const settled = await inTransaction(db, (tx) => settleIndexing(tx, file, claim, result));
    const ms = performance.now() - begin;
    if (settled) options.onIndexed?.({ tenantId, fileId, contentType, ms, result });
  } catch (error) {
    if (error instanceof ClaimLost) return true;
    // Not the document's fault: with the claim over, the next attempt begins. Those behind it go on.
    if (signal.aborted) await inTransaction(db, (tx) => giveBack(tx, file, claim));
    else options.onError(error);
  }
  return true;
};

const index = async (
  db: Db,
  file: ClaimedFile,
  claim: string,
  limits: ExtractionLimits,
  signal: AbortSignal,
): Promise<Extracted | { failure: ExtractionFailure }> => {
  if (file.attempts > maxAttempts) return { failure: "crashed" };
  const source = { contentType: file.contentType, bytes: Number(file.bytes), pieces: piecesOf(db, file) };
  const store = async (chunks: string): Promise<void> => {
    const held = await inTransaction(db, (tx) => insertChunks(tx, file, claim, leaseSecs, chunks));
    if (!held) throw new ClaimLost();
  };
  try {
    return await runExtraction(source, store, { limits, signal });
  } catch (error) {
    if (error instanceof ExtractionError) return { failure: error.failure };
    throw error;
  }
};

async function* piecesOf(db: Db, file: ClaimedFile): AsyncGenerator<Uint8Array> {
  let read = 0n;
  for (let no = 0; read < file.bytes; no += 1) {
    const piece = await readPiece(db, file.tenantId, file.id, no);
    if (piece === undefined) throw new ClaimLost();
    read += BigInt(piece.length);
    yield piece;
  }
}
