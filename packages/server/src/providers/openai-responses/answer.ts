import type { IncompleteReason, ProviderCitation, ProviderUsage } from "../contract.ts";
import { member } from "../failure.ts";

/** `usage` of a response object: missing counters are 0, a missing object is unknown (providers.md §1.4). */
export function readUsage(response: unknown): ProviderUsage | null {
  const usage = member(response, "usage");
  if (typeof usage !== "object" || usage === null) return null;
  const inputTokens = count(member(usage, "input_tokens"));
  const outputTokens = count(member(usage, "output_tokens"));
  const cached = count(member(member(usage, "input_tokens_details"), "cached_tokens"));
  const reasoning = count(member(member(usage, "output_tokens_details"), "reasoning_tokens"));
  return {
    inputTokens,
    outputTokens,
    // Parts of the totals by definition, whatever the provider says.
    cacheReadInputTokens: Math.min(cached, inputTokens),
    cacheWriteInputTokens: 0,
    reasoningTokens: Math.min(reasoning, outputTokens),
  };
}

/**
 * The citations of a response object, in order of appearance: `output[].content[].annotations[]`. Their
 * offsets count within their content part; the answer is all of the parts in a row.
 */
export function readCitations(response: unknown): readonly ProviderCitation[] {
  let before = 0;
  return contentParts(response).flatMap((part) => {
    const length = codePoints(outputText(part));
    const citations = list(member(part, "annotations")).flatMap(citation);
    const moved = citations.map((one) => inAnswer(one, before, length));
    before += length;
    return moved;
  });
}

/** A span outside its part would, moved, name the text of another one. */
const inAnswer = (one: ProviderCitation, before: number, length: number): ProviderCitation => {
  const { span, ...rest } = one;
  if (span === undefined || before === 0) return one;
  if (span.start < 0 || span.end > length) return rest;
  return { ...rest, span: { start: before + span.start, end: before + span.end } };
};

const codePoints = (content: string): number => {
  let count = content.length;
  for (const _pair of content.matchAll(/[\ud800-\udbff][\udc00-\udfff]/g)) count -= 1;
  return count;
};

/** The answer text of a response object: all `output_text` parts in a row. */
export function readText(response: unknown): string {
  return contentParts(response).map(outputText).join("");
}

const outputText = (part: unknown): string =>
  member(part, "type") === "output_text" ? (text(member(part, "text")) ?? "") : "";

/** The provider's id of a response object. */
export const readResponseId = (response: unknown): string | undefined =>
  text(member(response, "id")) || undefined;

const incompleteReasons: Readonly<Record<string, IncompleteReason>> = {
  max_output_tokens: "max_tokens",
  max_tokens: "max_tokens",
  length: "max_tokens",
  content_filter: "content_filter",
  refusal: "content_filter",
};

/** `incomplete_details.reason` in our three words (providers.md §1.4). */
export function readIncompleteReason(response: unknown): IncompleteReason {
  const reason = text(member(member(response, "incomplete_details"), "reason")) ?? "";
  return Object.hasOwn(incompleteReasons, reason) ? (incompleteReasons[reason] ?? "other") : "other";
}

const contentParts = (response: unknown): readonly unknown[] =>
  list(member(response, "output")).flatMap((item) => list(member(item, "content")));

const citation = (annotation: unknown): ProviderCitation[] => {
  const url = text(member(annotation, "url"));
  const fileId = text(member(annotation, "file_id"));
  const type = member(annotation, "type");
  if (type === "file_citation" && fileId !== undefined) {
    return [{ source: "file", providerFileId: fileId, ...details(annotation) }];
  }
  if (type === "url_citation" && url !== undefined) return [{ source: "web", url, ...details(annotation) }];
  return [];
};

const details = (annotation: unknown): Pick<ProviderCitation, "title" | "snippet" | "span"> => {
  const title = text(member(annotation, "title"));
  const snippet = text(member(annotation, "text"));
  const [start, end] = [member(annotation, "start_index"), member(annotation, "end_index")];
  return {
    ...(title === undefined ? {} : { title }),
    ...(snippet === undefined ? {} : { snippet }),
    ...(typeof start === "number" && typeof end === "number" ? { span: { start, end } } : {}),
  };
};

const list = (value: unknown): readonly unknown[] => (Array.isArray(value) ? value : []);

const text = (value: unknown): string | undefined => (typeof value === "string" ? value : undefined);

/** A counter as reported; what is no number becomes NaN, so that nobody bills it (quota.md §1.3). */
const count = (value: unknown): number => {
  if (value === undefined || value === null) return 0;
  return typeof value === "number" ? value : Number.NaN;
};
