import { AppError } from "../errors.ts";

/** What a text asks for, ready for `websearch_to_tsquery`: words, "phrases", `or`, `-exclusions`. */
export interface AskedText {
  readonly text: string;
  /** The last word stands for every word that begins with it. */
  readonly prefix: boolean;
}

/** A word that was found by; with `prefix` every word that begins with it. */
export interface FoundWord {
  readonly word: string;
  readonly prefix: boolean;
}

/** A parsed query in PostgreSQL's notation. */
export interface WordQuery {
  /** A hit satisfies this. */
  readonly query: string;
  /** What the index is asked: implied by `query` and free of phrases, which an index of words cannot judge. */
  readonly indexed: string;
  /** With phrases: a regular expression their texts in lower case match, to be told by `query` then. Else null. */
  readonly phrase: string | null;
  /** To be highlighted; excluded words are not among them. */
  readonly words: readonly FoundWord[];
}

export const maxQueryLength = 256;
/** The index reads the lists of all words that begin so, of all tenants: shorter beginnings cost more than they tell. */
const minPrefixLength = 3;

// The same list as in `search_terms` (migration 0006): what is one word there must be one word here.
const separators =
  "\\u0001-\\u002f\\u003a-\\u0040\\u005b-\\u0060\\u007b-\\u00a9\\u00ab-\\u00b4\\u00b6-\\u00b9\\u00bb-\\u00bf\\u00d7\\u00f7" +
  "\\u060c\\u061b\\u061f\\u06d4\\u0964\\u0965\\u2000-\\u2bff\\u3000-\\u3004\\u3008-\\u3020\\ufe10-\\ufe6f\\ufeff-\\uff0f" +
  "\\uff1a-\\uff20\\uff3b-\\uff40\\uff5b-\\uff65\\ufff0-\\uffff\\u{1f000}-\\u{1faff}";
const separated = new RegExp(`[${separators}]+`, "gu");

const wordsOf = (text: string): string => text.replace(separated, " ").trim();

/**
 * Reads `q`. Whatever separates words inside a term makes it a phrase: `app.ts` is "app ts". A term without
 * letters and digits is left out. Throws 400 `invalid_request` for more than 256 characters.
 */
export const readQuery = (q: string): AskedText => {
  if ([...q].length > maxQueryLength) {
    const message = `must not be longer than ${maxQueryLength} characters`;
    throw new AppError("invalid_request", { detail: `q ${message}.`, errors: [{ field: "q", message }] });
  }
  const terms = (q.match(/-?"[^"]*"|[^\s"]\S*|"/g) ?? []).flatMap((term) => {
    const words = wordsOf(term);
    if (words === "") return [];
    const sign = /^-[^-\s]/.test(term) ? "-" : "";
    const plain = words === term.slice(sign.length);
    return [`${sign}${plain ? words : `"${words}"`}`];
  });
  const last = /[^\s"*]+(?=\*\s*$)/u.exec(q)?.[0].replace(/^-/, "") ?? "";
  return {
    text: terms.join(" "),
    prefix: [...last].length >= minPrefixLength && wordsOf(last) === last,
  };
};

const lexemes = /'((?:[^']|'')*)'(:\*)?/g;

/**
 * What a parsed query and its findable part (`querytree`) mean for a search; null when it names no word to
 * find: it is empty, or an alternative of it only excludes.
 */
export const planQuery = (query: string, findable: string): WordQuery | null => {
  if (query === "" || findable === "" || findable === "T") return null;
  const words = [...findable.matchAll(lexemes)].map(([, lexeme = "", star]) => ({
    word: lexeme.replaceAll("''", "'").replaceAll("\\\\", "\\"),
    prefix: star !== undefined,
  }));
  // All words of a phrase are necessary for it, but having them all is not sufficient to exclude one.
  const hasPhrase = query.includes("<->") && !query.includes("!");
  return {
    query,
    indexed: hasPhrase ? query.replaceAll("<->", "&") : query,
    phrase: hasPhrase ? phrasePattern(query) : null,
    words,
  };
};

const phrases = /'(?:[^']|'')*'(?::\*)?(?: <-> '(?:[^']|'')*'(?::\*)?)+/g;

/** Implied by the query; matches everything where the query has alternatives, or a word beyond letters and digits. */
const phrasePattern = (query: string): string => {
  const first = query.includes("|") ? undefined : query.match(phrases)?.[0];
  const words = [...(first ?? "").matchAll(lexemes)].map(([, lexeme = ""]) => lexeme);
  return words.every((word) => /^[\p{L}\p{N}]+$/u.test(word))
    ? words.join(`[${separators.replaceAll(/\\u\{(\w+)\}/g, "\\U000$1")}]+`)
    : "";
};
