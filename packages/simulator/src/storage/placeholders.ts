import type { ModelRequest } from "../formats/request.ts";
import type { Files } from "./files.ts";
import { search } from "./search.ts";
import type { VectorStores } from "./vector-stores.ts";

const placeholder = /\{\{(file|found):(\d+)\}\}/g;

/** Stands for a file that does not exist. */
export const NO_FILE = "file-mock-none";

/**
 * Fills in file ids: `{{file:n}}` is the n-th upload, from 1. `{{found:n}}` is the n-th file of the vector
 * stores the request offers, those that match the last user message first; in a request without any, the
 * n-th upload.
 */
export const placeholders = (files: Files, stores: VectorStores, request: ModelRequest) => {
  let found: readonly string[] | null = null;
  const idOf = (kind: string, n: number): string => {
    const uploaded = files.uploadedId(n) ?? NO_FILE;
    if (kind === "file") return uploaded;
    found ??= foundIds(files, stores, request);
    return found.length === 0 ? uploaded : (found[n - 1] ?? NO_FILE);
  };
  return <T>(value: T): T => {
    const text = JSON.stringify(value);
    if (text === undefined || !text.includes("{{")) return value;
    return JSON.parse(text.replace(placeholder, (_all, kind: string, n: string) => idOf(kind, Number(n))));
  };
};

const foundIds = (files: Files, stores: VectorStores, request: ModelRequest): readonly string[] => {
  const offered = request.vectorStoreIds.flatMap((id) => stores.get(id) ?? []);
  const wanted = { query: request.lastUserText, maxResults: 100, minScore: 0 };
  const hits = offered
    .flatMap((store) => search(store, files, wanted))
    .sort((a, b) => b.score - a.score)
    .map(({ file }) => file.id);
  return [...new Set([...hits, ...offered.flatMap((store) => [...store.files.keys()])])];
};
