import type { FoundWord } from "./query.ts";

/** A part of a text, in Unicode code points of it, end exclusive. */
export interface Range {
  readonly start: number;
  readonly end: number;
}

/** A piece of a text for one line: plain text, never markup. */
export interface Excerpt {
  readonly text: string;
  readonly highlights: readonly Range[];
}

/** In UTF-16 units, without the ellipses. */
const maxLength = 240;
/** How much is shown before the first word that was found. */
const lead = 60;

const escaped = (word: string): string =>
  word.replace(/[^\p{L}\p{N}]/gu, (character) => `\\u{${(character.codePointAt(0) ?? 0).toString(16)}}`);

const inWord = "[\\p{L}\\p{N}\\p{M}]";

/** Matches any of the words as a whole, in either case; null without words. */
const patternOf = (words: readonly FoundWord[]): RegExp | null => {
  if (words.length === 0) return null;
  const any = words.map(({ word, prefix }) => `${escaped(word)}${prefix ? `${inWord}*` : ""}`).join("|");
  return new RegExp(`(?<!${inWord})(?:${any})(?!${inWord})`, "giu");
};

/** No half of a character is left at a cut. */
const wholeCharacter = (text: string, at: number): number => {
  const unit = text.charCodeAt(at);
  return unit >= 0xdc00 && unit <= 0xdfff ? at - 1 : at;
};

/** Where the excerpt begins and ends: at words, around the first match. */
const windowOf = (text: string, firstMatch: number): Range => {
  const wanted = Math.max(0, firstMatch - lead);
  const space = wanted === 0 ? -1 : text.indexOf(" ", wanted);
  const start = wanted > 0 && space >= 0 && space < firstMatch ? space + 1 : wanted;
  const limit = start + maxLength;
  if (limit >= text.length) return { start: wholeCharacter(text, start), end: text.length };
  const lastSpace = text.lastIndexOf(" ", limit);
  const end = lastSpace > start + maxLength / 2 ? lastSpace : limit;
  return { start: wholeCharacter(text, start), end: wholeCharacter(text, end) };
};

const lengthOf = (text: string): number => [...text].length;

/**
 * The piece of a text around the first of the words, white space made single spaces, "…" where it was cut,
 * and where in it the words are. Without a match it is the beginning of the text.
 */
export const excerptOf = (content: string, words: readonly FoundWord[]): Excerpt => {
  const text = content.replace(/\s+/gu, " ").trim();
  const pattern = patternOf(words);
  const { start, end } = windowOf(text, pattern?.exec(text)?.index ?? 0);
  const head = start > 0 ? "…" : "";
  const highlights: Range[] = [];
  let measured = start;
  let points = lengthOf(head);
  if (pattern !== null) pattern.lastIndex = start;
  for (let match = pattern?.exec(text); match; match = pattern?.exec(text)) {
    const after = match.index + match[0].length;
    if (after > end) break;
    points += lengthOf(text.slice(measured, match.index));
    const length = lengthOf(match[0]);
    highlights.push({ start: points, end: points + length });
    points += length;
    measured = after;
  }
  return { text: `${head}${text.slice(start, end)}${end < text.length ? "…" : ""}`, highlights };
};
