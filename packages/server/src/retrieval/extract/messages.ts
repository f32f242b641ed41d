import type { Position } from "../chunk.ts";
import type { ExtractionFailure } from "./block.ts";
import type { ExtractionLimits } from "./limits.ts";

export interface WorkerInput {
  readonly contentType: string;
  /** Of the file that follows in pieces, `null` behind the last. */
  readonly bytes: number;
  readonly limits: ExtractionLimits;
}

/** A chunk as it is stored. */
export interface StoredChunk extends Position {
  readonly no: number;
  readonly content: string;
  readonly overlap: number;
  /** The text of a `tsvector`. */
  readonly words: string;
}

/** What the thread tells: chunks as JSON of `StoredChunk[]`, at last the number of them or why there are none. */
export type FromWorker =
  | { readonly chunks: string }
  | { readonly count: number; readonly truncated: boolean }
  | { readonly failure: ExtractionFailure };
