import type { ModelRequest } from "../formats/request.ts";
import { fileSearch } from "../scenario/file-search.ts";
import type { Scenario } from "../scenario/scenario.ts";
import type { Files } from "./files.ts";
import { excerptOf, type SearchHit, search } from "./search.ts";
import type { VectorStores } from "./vector-stores.ts";

/** Asks for a document as such, so that the beginning of one is an answer. */
const aboutDocuments = /\b(?:attach\w*|documents?|files?|pdfs?|pages?|uploads?|summar\w+)\b/i;

const passageHead = /^\[cite:(\d+)\] .*$/gm;

/**
 * An answer from passages the request brings along, as a server sends them that searches by itself: each has
 * a head with its marker, then its lines behind ">". The marker of the passage is put behind what is taken
 * from it. Null without passages.
 */
export const quotedAnswer = ({ textBefore, lastUserText }: ModelRequest): Scenario | null => {
  const heads = [...textBefore.matchAll(passageHead)];
  const passages = heads.map((head, at) => {
    const lines = textBefore
      .slice(head.index, heads[at + 1]?.index)
      .split("\n")
      .slice(1);
    const text = lines.flatMap((line) => (line.startsWith("> ") ? [line.slice(2)] : [])).join("\n");
    return { marker: `[cite:${head[1]}]`, excerpt: excerptOf(text, lastUserText) };
  });
  const [best] = passages.filter(({ excerpt }) => excerpt !== "");
  if (best === undefined) return null;
  return { name: "passages", events: [{ text: `Your document says: "${best.excerpt}" ${best.marker}` }] };
};

/**
 * An answer from the documents a request offers to search: the sentence that fits the last user message
 * best, with its file cited. Null when nothing fits.
 */
export const documentAnswer = (
  files: Files,
  stores: VectorStores,
  request: ModelRequest,
): Scenario | null => {
  if (!request.offered.has("file_search")) return quotedAnswer(request);
  const question = request.lastUserText.replace(/^FILESEARCH:\s*/, "");
  const hit = bestHit(files, stores, request, question);
  if (hit === null) return null;
  const excerpt = excerptOf(hit.text, question);
  if (excerpt === "") return null;
  return fileSearch("document", {
    fileId: hit.file.id,
    filename: hit.file.filename,
    score: hit.score,
    excerpt,
    answer: `Your document says: "${excerpt}"`,
  });
};

const bestHit = (
  files: Files,
  stores: VectorStores,
  request: ModelRequest,
  query: string,
): SearchHit | null => {
  const offered = request.vectorStoreIds.flatMap((id) => stores.get(id) ?? []);
  const [best] = offered
    .flatMap((store) =>
      search(store, files, { query, filter: request.fileFilter, maxResults: 1, minScore: 0 }),
    )
    .sort((a, b) => b.score - a.score);
  if (best !== undefined || !aboutDocuments.test(request.lastUserText)) return best ?? null;
  const first = offered
    .flatMap((store) => [...store.files.values()])
    .find((one) => one.status === "completed");
  const file = first === undefined ? null : files.get(first.id);
  return file === null || first === undefined
    ? null
    : { file, attributes: first.attributes, score: 0.1, text: file.text.slice(0, 800) };
};
