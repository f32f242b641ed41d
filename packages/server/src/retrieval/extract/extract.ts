import type { Emit } from "./block.ts";
import { ExtractionError } from "./block.ts";
import { extractDocx } from "./docx.ts";
import { extractHtml } from "./html.ts";
import type { ExtractionLimits } from "./limits.ts";
import { extractPptx } from "./pptx.ts";
import { extractMarkdown, extractText } from "./text.ts";
import { extractXlsx } from "./xlsx.ts";

type Extractor = (bytes: Uint8Array, emit: Emit, limits: ExtractionLimits) => void | Promise<void>;

const office = "application/vnd.openxmlformats-officedocument";

const extractors: Readonly<Record<string, Extractor | undefined>> = {
  // Loaded for a PDF only: it is 1.5 MB of code.
  "application/pdf": async (...given) => (await import("./pdf.ts")).extractPdf(...given),
  "text/html": extractHtml,
  "text/markdown": extractMarkdown,
  [`${office}.wordprocessingml.document`]: extractDocx,
  [`${office}.presentationml.presentation`]: extractPptx,
  [`${office}.spreadsheetml.sheet`]: extractXlsx,
  "application/json": extractText,
};

/** The text of a document by its validated type (attachments.md §5). Throws `ExtractionError` and what `emit` throws. */
export const extract = async (
  contentType: string,
  bytes: Uint8Array,
  emit: Emit,
  limits: ExtractionLimits,
): Promise<void> => {
  const own = Object.hasOwn(extractors, contentType) ? extractors[contentType] : undefined;
  const extractor = own ?? (contentType.startsWith("text/") ? extractText : undefined);
  if (extractor === undefined) throw new ExtractionError("unsupported");
  await extractor(bytes, emit, limits);
};
