import { unzipSync } from "fflate";
import { ExtractionError } from "./block.ts";
import type { ExtractionLimits } from "./limits.ts";

/** The wanted entries of an Office document by their path. */
export type Archive = ReadonlyMap<string, Uint8Array>;

/** An encrypted Office document is an OLE container, not a ZIP archive. */
const ole = [0xd0, 0xcf, 0x11, 0xe0, 0xa1, 0xb1, 0x1a, 0xe1];

/** Small entries may be packed as well as they like: blank sheets are. */
const ratioFrom = 1_048_576;

/**
 * Inflates what `wanted` names. Sizes are judged by the directory before anything is inflated, and an entry
 * that lies about its size is cut off there: its buffer is as large as it said and never grows.
 */
export const openArchive = (
  file: Uint8Array,
  wanted: (path: string) => boolean,
  limits: ExtractionLimits,
): Archive => {
  if (ole.every((byte, at) => file[at] === byte)) throw new ExtractionError("encrypted");
  let entries = 0;
  let inflated = 0;
  const isWanted = (entry: { name: string; size: number; originalSize: number }): boolean => {
    entries += 1;
    if (entries > limits.maxEntries) throw new ExtractionError("too_large");
    if (!wanted(entry.name)) return false;
    inflated += entry.originalSize;
    const ratio = entry.originalSize / Math.max(1, entry.size);
    if (inflated > limits.maxInflatedBytes || (entry.originalSize > ratioFrom && ratio > limits.maxRatio)) {
      throw new ExtractionError("too_large");
    }
    return true;
  };
  try {
    return new Map(Object.entries(unzipSync(file, { filter: isWanted })));
  } catch (error) {
    throw error instanceof ExtractionError ? error : new ExtractionError("malformed", error);
  }
};
