import { type ExtractionLimits, extractionLimits } from "../../src/retrieval/extract/limits.ts";
import type { StoredChunk } from "../../src/retrieval/extract/messages.ts";
import { type Extracted, runExtraction } from "../../src/retrieval/extract/run.ts";

const office = "application/vnd.openxmlformats-officedocument";

export const mime = {
  pdf: "application/pdf",
  docx: `${office}.wordprocessingml.document`,
  pptx: `${office}.presentationml.presentation`,
  xlsx: `${office}.spreadsheetml.sheet`,
  html: "text/html",
  md: "text/markdown",
  txt: "text/plain",
} as const;

export async function* inPieces(bytes: Uint8Array, size = 100_000): AsyncGenerator<Uint8Array> {
  for (let at = 0; at < bytes.length; at += size) yield bytes.subarray(at, at + size);
}

/** What the worker thread makes of a file. */
export const extracted = async (
  contentType: string,
  file: Uint8Array | string,
  limits: Partial<ExtractionLimits> = {},
): Promise<Extracted & { stored: StoredChunk[] }> => {
  const bytes = typeof file === "string" ? Buffer.from(file) : file;
  const stored: StoredChunk[] = [];
  const result = await runExtraction(
    { contentType, bytes: bytes.length, pieces: inPieces(bytes) },
    async (chunks) => {
      stored.push(...(JSON.parse(chunks) as StoredChunk[]));
    },
    { limits: { ...extractionLimits, ...limits } },
  );
  return { ...result, stored };
};
