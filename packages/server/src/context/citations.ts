import type { ProviderCitation } from "../providers/contract.ts";

/** One item of the `citations` event, as sent and stored (turns.md §5.2). */
export interface Citation {
  readonly source: "file" | "web";
  readonly title: string;
  readonly url?: string;
  readonly attachment_id?: string;
  readonly snippet: string;
  readonly score?: number;
  /** Unicode code points of the visible answer, end exclusive. */
  readonly span?: { readonly start: number; readonly end: number };
  /** Where in the file it stands, in words: `page 3`. Of files we search ourselves (docs/retrieval.md). */
  readonly position?: string;
}

/** An attachment of the chat that the model could see. */
export interface CitableFile {
  readonly attachmentId: string;
  readonly filename: string;
  /** Since the context was assembled. */
  readonly deleted?: boolean;
}

/** Label values of the metric `citations_dropped`. */
export type CitationDropReason = "unknown" | "deleted" | "invalid";

/** The pattern of a marker that a model puts behind what it takes from a passage (docs/retrieval.md). */
export const citeMarker = String.raw`\[cite:[\d\s,]{1,40}\]`;

const maxItems = 50;
// Code points, as all limits (api.md §3).
const maxUrl = 2_048;
const maxTitle = 512;
const maxSnippet = 1_000;

/**
 * What the client is told of the provider's annotations (context.md §8.1), in their order. `content` is
 * the visible answer, `files` are by provider file id, which never gets into an item. `dropped` holds
 * a reason for each citation with no valid target; duplicates and whatever exceeds 50 go silently.
 */
export const mapCitations = (
  citations: readonly ProviderCitation[],
  content: string,
  files: ReadonlyMap<string, CitableFile>,
): { items: Citation[]; dropped: CitationDropReason[] } => {
  const answer = codePointsOf(content);
  const items = new Map<string, Citation>();
  const dropped: CitationDropReason[] = [];
  for (const citation of citations) {
    const target = citation.source === "file" ? fileTarget(citation, files) : webTarget(citation);
    if (typeof target === "string") {
      dropped.push(target);
      continue;
    }
    const span = spanWithin(citation.span, answer.length);
    const { position } = citation;
    const key = JSON.stringify([
      target.attachment_id ?? null,
      target.url ?? null,
      span?.start,
      span?.end,
      position,
    ]);
    if (items.has(key) || items.size === maxItems) continue;
    const text = citation.snippet || (span ? answer.slice(span.start, span.end) : "");
    const snippet = cut(clean(withoutFileId(text, citation)), maxSnippet);
    items.set(key, {
      ...target,
      snippet,
      ...(span ? { span } : {}),
      ...(position === undefined ? {} : { position }),
    });
  }
  return { items: [...items.values()], dropped };
};

type Target = Pick<Citation, "source" | "title" | "url" | "attachment_id">;

const fileTarget = (
  citation: ProviderCitation,
  files: ReadonlyMap<string, CitableFile>,
): Target | CitationDropReason => {
  const file = citation.providerFileId === undefined ? undefined : files.get(citation.providerFileId);
  if (file === undefined) return "unknown";
  if (file.deleted) return "deleted";
  return { source: "file", title: clean(file.filename), attachment_id: file.attachmentId };
};

const webTarget = (citation: ProviderCitation): Target | CitationDropReason => {
  const url = safeUrl(citation.url ?? "");
  if (url === null) return "invalid";
  return { source: "web", title: cut(clean(citation.title ?? ""), maxTitle), url };
};

/** The URL as a browser reads it, so that what was checked is what is opened; null when it is not for the web. */
const safeUrl = (text: string): string | null => {
  const url = URL.parse(text);
  if (url === null || (url.protocol !== "http:" && url.protocol !== "https:")) return null;
  url.username = "";
  url.password = "";
  url.hash = "";
  // A cut inside the host would name another one.
  if (url.origin.length > maxUrl) return null;
  if (url.href.length <= maxUrl) return url.href;
  // Nor may half an escape stay.
  return url.href.slice(0, maxUrl).replace(/%[\da-f]?$/i, "");
};

// Some models quote the id in their annotation.
const withoutFileId = (text: string, { providerFileId }: ProviderCitation): string =>
  providerFileId ? text.replaceAll(providerFileId, "") : text;

const spanWithin = (span: ProviderCitation["span"], length: number): Citation["span"] => {
  if (span === undefined || !Number.isInteger(span.start) || !Number.isInteger(span.end)) return undefined;
  const { start, end } = span;
  return 0 <= start && start < end && end <= length ? { start, end } : undefined;
};

/** Storable as JSON in PostgreSQL, which takes neither U+0000 nor half a character. */
const clean = (text: string): string => text.toWellFormed().replaceAll("\0", "");

const cut = (text: string, max: number): string =>
  text.length <= max ? text : codePointsOf(text).slice(0, max);

/** A text by its code points; without surrogates they are its UTF-16 units. */
const codePointsOf = (text: string): { length: number; slice(start: number, end: number): string } => {
  if (!/[\ud800-\udfff]/.test(text)) return text;
  const points = Array.from(text);
  return { length: points.length, slice: (start, end) => points.slice(start, end).join("") };
};
