import { isRecord } from "../scenario/checks.ts";
import type { Files, StoredFile } from "./files.ts";
import type { IndexedFile, VectorStore } from "./vector-stores.ts";

export interface SearchHit {
  readonly file: StoredFile;
  readonly attributes: Readonly<Record<string, unknown>>;
  /** From 0 to 1: the part of the query's telling words that the passage has. */
  readonly score: number;
  readonly text: string;
}

export interface Search {
  readonly query: string;
  readonly filter?: unknown;
  readonly maxResults: number;
  readonly minScore: number;
}

const PASSAGE_LENGTH = 800;

/** Ranks the indexed files of a store by the words they share with the query; without a common word no hit. */
export const search = (store: VectorStore, files: Files, wanted: Search): readonly SearchHit[] => {
  const asked = wordsOf(wanted.query);
  const telling = asked.filter(isTelling);
  const words = new Set(telling.length > 0 ? telling : asked);
  return [...store.files.values()]
    .filter((indexed) => indexed.status === "completed" && matches(wanted.filter, indexed))
    .flatMap((indexed) => bestPassage(indexed, files.get(indexed.id), words))
    .filter(({ score }) => score > 0 && score >= wanted.minScore)
    .sort((a, b) => b.score - a.score)
    .slice(0, wanted.maxResults);
};

const bestPassage = (
  indexed: IndexedFile,
  file: StoredFile | null,
  words: ReadonlySet<string>,
): SearchHit[] => {
  if (file === null) return [];
  const content = file.text;
  let best: SearchHit = { file, attributes: indexed.attributes, score: 0, text: "" };
  for (let at = 0; at < content.length; at += PASSAGE_LENGTH) {
    const text = content.slice(at, at + PASSAGE_LENGTH);
    const found = new Set(wordsOf(text));
    const score = [...words].filter((word) => found.has(word)).length / Math.max(1, words.size);
    if (score > best.score) best = { ...best, score, text };
  }
  return [best];
};

const wordsOf = (text: string): readonly string[] => text.toLowerCase().match(/[\p{L}\p{N}]+/gu) ?? [];

const MAX_EXCERPT = 300;

/** The sentence of a passage that shares most words with the query, the first of the best. */
export const excerptOf = (passage: string, query: string): string => {
  const words = new Set(wordsOf(query).filter(isTelling));
  let best = { score: -1, sentence: "" };
  for (const sentence of passage.split(/(?<=[.!?])\s+|\n+/).map((part) => part.trim())) {
    if (sentence === "") continue;
    const found = new Set(wordsOf(sentence));
    const score = [...words].filter((word) => found.has(word)).length;
    if (score > best.score) best = { score, sentence };
  }
  return best.sentence.slice(0, MAX_EXCERPT);
};

/** Whether a word says something about what is asked; a query of other words alone is taken whole. */
const isTelling = (word: string): boolean => !fillers.has(word);

const fillers = new Set(
  "a about an and are as at be by can do does for from has have how i in is it its me my of on or say says tell that the this to was what when where which who why with you your".split(
    " ",
  ),
);

/** Filters on attributes (providers.md §2); a form nobody knows matches nothing. */
const matches = (filter: unknown, file: IndexedFile): boolean => {
  if (filter === undefined || filter === null) return true;
  if (!isRecord(filter)) return false;
  const { type, key, value, values, filters } = filter;
  const actual = typeof key === "string" ? file.attributes[key] : undefined;
  if (type === "eq") return actual === value;
  // The API writes the list as `value`, the specification as `values`.
  if (type === "in") return [values, value].some((list) => Array.isArray(list) && list.includes(actual));
  if (!Array.isArray(filters)) return false;
  if (type === "and") return filters.every((inner: unknown) => matches(inner, file));
  return type === "or" && filters.some((inner: unknown) => matches(inner, file));
};
