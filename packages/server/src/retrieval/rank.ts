import type { Position } from "./chunk.ts";
import type { Candidate } from "./find-store.ts";

/** A passage of a document that goes into the context. */
export interface Excerpt {
  readonly attachmentId: string;
  readonly filename: string;
  readonly position: Position;
  readonly text: string;
  readonly score: number;
}

/** Each passage of a document makes its next one count less, so that one document does not take all places. */
const repetition = 0.85;

interface Passage {
  readonly chunks: readonly Candidate[];
  readonly score: number;
}

/**
 * Chooses the excerpts, best first: neighbouring chunks become one passage, documents take turns, and
 * `fits` says whether a list is still within the budget. Pure; the same candidates give the same excerpts.
 */
export const chooseExcerpts = (
  candidates: readonly Candidate[],
  maxResults: number,
  fits: (excerpts: readonly Excerpt[]) => boolean,
): Excerpt[] => {
  let chosen: readonly Passage[] = [];
  const left = new Set(candidates);
  const taken = new Map<string, number>();
  while (left.size > 0) {
    const next = bestOf(left, taken);
    left.delete(next);
    const passages = withChunk(chosen, next);
    if (passages.length > maxResults || !fits(passages.map(excerptOf))) continue;
    chosen = passages;
    taken.set(next.fileId, (taken.get(next.fileId) ?? 0) + 1);
  }
  return chosen.map(excerptOf);
};

/** The first of the best, whose document is not chosen too often. */
const bestOf = (left: ReadonlySet<Candidate>, taken: ReadonlyMap<string, number>): Candidate => {
  let best: { readonly candidate: Candidate; readonly score: number } | undefined;
  for (const candidate of left) {
    const score = candidate.score * repetition ** (taken.get(candidate.fileId) ?? 0);
    if (best === undefined || score > best.score) best = { candidate, score };
  }
  if (best === undefined) throw new RangeError("no candidates");
  return best.candidate;
};

/** The chunk joins the passages it stands next to, at the place of the better one. */
const withChunk = (passages: readonly Passage[], chunk: Candidate): Passage[] => {
  const touching = passages.filter(({ chunks }) => chunks.some((other) => isNext(other, chunk)));
  const joined: Passage = {
    chunks: [...touching.flatMap(({ chunks }) => chunks), chunk].sort((a, b) => a.no - b.no),
    score: Math.max(chunk.score, ...touching.map(({ score }) => score)),
  };
  const [first] = touching;
  if (first === undefined) return [...passages, joined];
  return passages.flatMap((passage) => {
    if (passage === first) return [joined];
    return touching.includes(passage) ? [] : [passage];
  });
};

/** Next to each other in the document, under one heading and on one sheet or slide. */
const isNext = (a: Candidate, b: Candidate): boolean =>
  a.fileId === b.fileId &&
  Math.abs(a.no - b.no) === 1 &&
  a.position.kind === b.position.kind &&
  a.position.name === b.position.name;

const excerptOf = ({ chunks, score }: Passage): Excerpt => {
  const [first] = chunks;
  const last = chunks.at(-1);
  if (first === undefined || last === undefined) throw new RangeError("a passage without chunks");
  return {
    attachmentId: first.attachmentId,
    filename: first.filename,
    position: { ...first.position, to: Math.max(first.position.to, last.position.to) },
    text: chunks.map(({ content, overlap }, at) => (at === 0 ? content : joint(content, overlap))).join(""),
    score,
  };
};

/** What a chunk says beyond the one before, which it repeats the end of. */
const joint = (content: string, overlap: number): string =>
  overlap === 0 ? `\n${content}` : content.slice(overlap);
