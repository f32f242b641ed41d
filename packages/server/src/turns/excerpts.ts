import type { TenantId } from "../auth/actor.ts";
import { citeMarker } from "../context/citations.ts";
import type {
  LlmProvider,
  ProviderCitation,
  ProviderEvent,
  ProviderMessage,
  ProviderOutcome,
  ProviderRequest,
  ProviderStream,
} from "../providers/contract.ts";
import { citeExcerpts, renderExcerpts } from "../retrieval/excerpts.ts";
import type { Excerpt } from "../retrieval/rank.ts";
import type { Logger } from "../telemetry/log.ts";
import type { Metrics } from "../telemetry/metrics.ts";
import type { PassageSearch, RunningTurn } from "./running.ts";

/** The passages of a chat's documents that fit a question, best first; reads only. */
export type FindPassages = (
  tenantId: TenantId,
  chatId: string,
  search: PassageSearch,
) => Promise<readonly Excerpt[]>;

export interface SearchDeps {
  readonly findPassages: FindPassages;
  readonly metrics: Metrics;
  readonly logger: Logger;
}

type SearchingTurn = Pick<RunningTurn, "id" | "actor" | "chatId" | "files" | "target"> & {
  readonly search: PassageSearch;
};

/**
 * File search where the documents lie in our own database (docs/retrieval.md): the model is asked with the
 * passages that fit the question, and its markers become citations. To the turn it is what a provider that
 * searches by itself is: a tool call that starts and ends, then the answer. Without a search, which fails
 * or is too slow, the turn goes on.
 */
export const searchingHere = (
  deps: SearchDeps,
  adapter: LlmProvider,
  turn: SearchingTurn,
): Pick<LlmProvider, "stream"> => ({
  stream: (request, target, signal) => {
    const closed = Promise.withResolvers<void>();
    const search: Search = {
      fileIds: new Map([...turn.files].map(([fileId, { attachmentId }]) => [attachmentId, fileId])),
      find: () => found(deps, turn),
      open: (passages) => adapter.stream(withPassages(request, passages), target, signal),
      closed: closed.resolve,
    };
    return { closed: closed.promise, [Symbol.asyncIterator]: () => answered(search, signal) };
  },
});

interface Search {
  /** Of the files of the context, by attachment. */
  readonly fileIds: ReadonlyMap<string, string>;
  readonly find: () => Promise<readonly Excerpt[]>;
  readonly open: (passages: readonly Excerpt[]) => ProviderStream;
  readonly closed: () => void;
}

/** Only of the documents of the context: a later one could not be cited (context.md §8.1). */
const found = async (deps: SearchDeps, turn: SearchingTurn): Promise<readonly Excerpt[]> => {
  const { metrics } = deps;
  const begin = performance.now();
  try {
    const passages = await deps.findPassages(turn.actor.tenantId, turn.chatId, turn.search);
    const known = new Set([...turn.files.values()].map(({ attachmentId }) => attachmentId));
    const usable = passages.filter(({ attachmentId }) => known.has(attachmentId));
    metrics.observe("retrieval_chunks_returned", {}, usable.length);
    if (usable.length === 0) metrics.count("retrieval_zero_hit");
    return usable;
  } catch (error) {
    deps.logger.warn({ err: error, turn_id: turn.id }, "the documents of the chat could not be searched");
    return [];
  } finally {
    const { providerId: provider } = turn.target;
    metrics.observe("retrieval_latency_ms", { provider }, performance.now() - begin);
  }
};

async function* answered(
  search: Search,
  signal: AbortSignal,
): AsyncGenerator<readonly ProviderEvent[], void, void> {
  let stream: ProviderStream | null = null;
  try {
    yield [{ type: "tool", phase: "start", name: "file_search", details: {} }];
    const passages = await unlessAborted(search.find(), signal);
    if (passages === undefined || signal.aborted) {
      yield [{ type: "terminal", outcome: { kind: "aborted", started: false } }];
      return;
    }
    const files = new Set(passages.map((one) => one.attachmentId)).size;
    yield [{ type: "tool", phase: "done", name: "file_search", details: { files_searched: files } }];
    stream = search.open(passages);
    yield* cited(stream, passages, search.fileIds);
  } finally {
    if (stream === null) search.closed();
    else void stream.closed.then(search.closed);
  }
}

/** Undefined as soon as the signal fires: nobody waits for a search whose turn is over. */
const unlessAborted = async <T>(work: Promise<T>, signal: AbortSignal): Promise<T | undefined> => {
  const aborted = Promise.withResolvers<undefined>();
  const onAbort = (): void => aborted.resolve(undefined);
  signal.addEventListener("abort", onAbort, { once: true });
  if (signal.aborted) onAbort();
  try {
    return await Promise.race([work, aborted.promise]);
  } finally {
    signal.removeEventListener("abort", onAbort);
  }
};

async function* cited(
  stream: ProviderStream,
  passages: readonly Excerpt[],
  fileIds: Search["fileIds"],
): AsyncGenerator<readonly ProviderEvent[], void, void> {
  let answer = "";
  for await (const batch of stream) {
    for (const event of batch) {
      // As it is shown and stored: places are counted in that text.
      if (event.type === "delta" && event.kind === "text") answer += event.content.replaceAll("\0", "");
    }
    const last = batch.at(-1);
    if (last?.type !== "terminal") yield batch;
    else {
      const outcome = withCitations(last.outcome, () => citationsOf(answer, passages, fileIds));
      yield [...batch.slice(0, -1), { type: "terminal", outcome }];
    }
  }
}

const withCitations = (outcome: ProviderOutcome, cite: () => readonly ProviderCitation[]): ProviderOutcome =>
  outcome.kind === "completed" || outcome.kind === "incomplete"
    ? { ...outcome, citations: [...outcome.citations, ...cite()] }
    : outcome;

const citationsOf = (
  answer: string,
  passages: readonly Excerpt[],
  fileIds: Search["fileIds"],
): ProviderCitation[] => {
  const { items, dropped } = citeExcerpts(answer, passages);
  return [
    ...items.map(({ attachment_id: attachmentId, snippet, span, position }): ProviderCitation => {
      const providerFileId = fileIds.get(attachmentId);
      return {
        source: "file",
        snippet,
        position,
        ...(providerFileId === undefined ? {} : { providerFileId }),
        ...(span === undefined ? {} : { span }),
      };
    }),
    // A marker of no passage is a citation of an unknown file, and counted as one.
    ...dropped.map((): ProviderCitation => ({ source: "file" })),
  ];
};

/**
 * The passages are a message of their own, right before the question: both stay whole. What stands before them is
 * the same whether any were found or not.
 */
const withPassages = (request: ProviderRequest, passages: readonly Excerpt[]): ProviderRequest => {
  const question = request.messages.at(-1);
  if (question === undefined) return request;
  const before = request.messages.slice(0, -1).map(withoutMarkers);
  const quoted: ProviderMessage = { role: "user", content: [{ text: renderExcerpts(passages) }] };
  return {
    ...request,
    messages: passages.length === 0 ? [...before, question] : [...before, quoted, question],
  };
};

const marker = new RegExp(`\\s?${citeMarker}`, "g");

/** Markers of earlier answers name passages that are not there any more. */
const withoutMarkers = (message: ProviderMessage): ProviderMessage =>
  message.role !== "assistant"
    ? message
    : {
        ...message,
        content: message.content.map((part) =>
          "text" in part ? { text: part.text.replaceAll(marker, "") } : part,
        ),
      };
