/** Where in a document a piece of text stands. */
export interface Place {
  readonly kind: "page" | "slide" | "sheet" | "section" | "line";
  /** Counted from 1: the page, the slide, the row, the paragraph or the line. */
  readonly number: number;
  /** The sheet, or the heading the text stands under. */
  readonly name?: string;
}

/** A paragraph, a row or a line: what an extractor gives, in the order of the document. */
export interface Block {
  readonly text: string;
  readonly place: Place;
}

/** Takes the blocks one by one; throws `EnoughText` when no more are wanted. */
export type Emit = (block: Block) => void;

/** Not a failure: the document is longer than what is kept of it. */
export class EnoughText extends Error {
  override name = "EnoughText";
}

export const extractionFailures = [
  "encrypted",
  "malformed",
  "too_large",
  "no_text",
  "unsupported",
  "time_limit",
  "memory_limit",
  "crashed",
] as const;

/** Why a document has no text for us. */
export type ExtractionFailure = (typeof extractionFailures)[number];

/** The document cannot be read; another attempt would end the same. */
export class ExtractionError extends Error {
  override name = "ExtractionError";
  readonly failure: ExtractionFailure;

  constructor(failure: ExtractionFailure, cause?: unknown) {
    super(failure, cause === undefined ? undefined : { cause });
    this.failure = failure;
  }
}

const maxName = 200;

/** A heading or sheet name fit for a label: one line, bounded; undefined when nothing is left. */
export const placeName = (text: string): string | undefined => {
  const name = [...text.replace(/[\s\p{Cc}]+/gu, " ").trim()].slice(0, maxName).join("");
  return name === "" ? undefined : name;
};
