import { type CitableFile, type Citation, mapCitations } from "../context/citations.ts";
import type { Logger } from "../telemetry/log.ts";
import type { Metrics } from "../telemetry/metrics.ts";
import type { LiveAttachments } from "./live-citations.ts";
import type { RunningTurn } from "./running.ts";
import type { Terminal } from "./turn.ts";

export interface CiteDeps {
  readonly liveAttachments: LiveAttachments;
  readonly metrics: Metrics;
  readonly logger: Logger;
}

type CitingTurn = Pick<RunningTurn, "id" | "actor" | "chatId" | "files">;

/**
 * The citations a completed turn is stored and shown with: mapped by the files of its context, without
 * those deleted since, cleaned, counted (context.md §8.1). Never throws.
 */
export const citationsOf = async (
  deps: CiteDeps,
  turn: CitingTurn,
  terminal: Terminal,
): Promise<readonly Citation[]> => {
  const { metrics } = deps;
  if (terminal.citations.length === 0) return [];
  const files = await citedFiles(deps, turn, terminal);
  const { items, dropped } = mapCitations(terminal.citations, terminal.content, files);
  for (const reason of dropped) metrics.count("citations_dropped", { reason });
  if (items.length > 0) metrics.observe("citations_count", {}, items.length);
  for (const item of items) metrics.count("citations_by_source", { source: item.source });
  return items;
};

/** The files that are cited, as they stand now: one read, and only where a file is cited. */
const citedFiles = async (
  deps: CiteDeps,
  turn: CitingTurn,
  terminal: Terminal,
): Promise<ReadonlyMap<string, CitableFile>> => {
  const cited = new Map<string, CitableFile>();
  for (const { providerFileId = "" } of terminal.citations) {
    const file = turn.files.get(providerFileId);
    if (file !== undefined) cited.set(providerFileId, file);
  }
  if (cited.size === 0) return cited;
  const ids = [...new Set([...cited.values()].map((file) => file.attachmentId))];
  const live = await deps
    .liveAttachments(turn.actor.tenantId, turn.chatId, ids)
    .catch((error: unknown): ReadonlySet<string> => {
      // A deleted file is never cited (context.md §12.9): without an answer none is.
      deps.logger.warn({ err: error, turn_id: turn.id }, "cited files could not be looked up");
      return new Set();
    });
  return new Map(
    [...cited].map(([id, file]) => [id, live.has(file.attachmentId) ? file : { ...file, deleted: true }]),
  );
};
