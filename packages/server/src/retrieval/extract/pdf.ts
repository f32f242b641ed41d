import { getDocumentProxy } from "unpdf";
import { type Emit, ExtractionError } from "./block.ts";
import { cleanText } from "./decode.ts";
import type { ExtractionLimits } from "./limits.ts";

interface Item {
  readonly str: string;
  readonly hasEOL: boolean;
  readonly height: number;
  readonly transform: readonly number[];
}

/** Text in the order of the file, a block per paragraph, which ends where the lines stand apart. */
export const extractPdf = async (bytes: Uint8Array, emit: Emit, limits: ExtractionLimits): Promise<void> => {
  const document = await getDocumentProxy(bytes, {
    verbosity: 0,
    // Text needs neither; both would run or load what the file brings along.
    isEvalSupported: false,
    disableFontFace: true,
  }).catch((error: unknown) => {
    const encrypted = error instanceof Error && error.name === "PasswordException";
    throw new ExtractionError(encrypted ? "encrypted" : "malformed", error);
  });
  if (document.numPages > limits.maxPages) throw new ExtractionError("too_large");
  for (let number = 1; number <= document.numPages; number += 1) {
    const page = await document.getPage(number).catch((error: unknown) => {
      throw new ExtractionError("malformed", error);
    });
    const content = await page.getTextContent().catch(() => null);
    // A page that cannot be read does not take the others with it.
    for (const text of paragraphsOf((content?.items ?? []).flatMap(textItem))) {
      emit({ text, place: { kind: "page", number } });
    }
    page.cleanup();
  }
};

const textItem = (item: unknown): Item[] =>
  typeof item === "object" && item !== null && "str" in item ? [item as Item] : [];

/** A gap of more than this many line heights begins a paragraph. */
const paragraphGap = 1.8;

export function* paragraphsOf(items: readonly Item[]): Generator<string> {
  let text = "";
  let lineY: number | undefined;
  for (const { str, hasEOL, height, transform } of items) {
    const y = transform[5] ?? 0;
    if (str !== "" && lineY !== undefined && text.endsWith("\n")) {
      if (Math.abs(lineY - y) > paragraphGap * Math.max(height, 4)) {
        yield paragraph(text);
        text = "";
      }
    }
    if (str !== "") lineY = y;
    text += str;
    if (hasEOL) text += "\n";
  }
  yield paragraph(text);
}

/** Lines joined; a word that was divided at the end of one is whole again. */
const paragraph = (text: string): string =>
  cleanText(text)
    .replace(/(\p{Ll})[-\u00ad]\n(?=\p{Ll})/gu, "$1")
    .replace(/\s+/gu, " ")
    .trim();
