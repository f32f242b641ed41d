/** What one extraction may cost; the defaults hold for every file. */
export interface ExtractionLimits {
  /** Of the file. */
  readonly maxBytes: number;
  /** Of the text that is kept, in UTF-16 units; what comes after it is left out. */
  readonly maxCharacters: number;
  /** Of all entries of an archive that are read, by their directory and in fact. */
  readonly maxInflatedBytes: number;
  readonly maxEntries: number;
  /** Inflated to packed size of an entry beyond the first MiB: text packs to a tenth, bombs to a thousandth. */
  readonly maxRatio: number;
  readonly maxPages: number;
  /** Of elements inside each other. */
  readonly maxDepth: number;
  /** From the first byte handed over to the last chunk; below `rag.index_wait_secs`, so that the upload is told. */
  readonly timeMs: number;
  /** Of JavaScript objects. */
  readonly heapMb: number;
  /** Of the heap and the buffers outside of it together. */
  readonly memoryMb: number;
}

export const extractionLimits: ExtractionLimits = {
  maxBytes: 64 * 1_048_576,
  maxCharacters: 4_000_000,
  maxInflatedBytes: 128 * 1_048_576,
  maxEntries: 10_000,
  maxRatio: 200,
  maxPages: 5_000,
  maxDepth: 2_000,
  timeMs: 45_000,
  heapMb: 256,
  memoryMb: 512,
};
