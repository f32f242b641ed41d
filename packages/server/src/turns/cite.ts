import { type Citation, mapCitations } from "../context/citations.ts";
import type { Metrics } from "../telemetry/metrics.ts";
import type { Terminal } from "./turn.ts";

/** The citations a completed turn is stored and shown with: mapped, cleaned, counted (context.md §8.1). */
export const citationsOf = (metrics: Metrics, terminal: Terminal): readonly Citation[] => {
  if (terminal.citations.length === 0) return [];
  const { items, dropped } = mapCitations(terminal.citations, terminal.content, new Map());
  for (const reason of dropped) metrics.count("citations_dropped", { reason });
  if (items.length > 0) metrics.observe("citations_count", {}, items.length);
  for (const item of items) metrics.count("citations_by_source", { source: item.source });
  return items;
};
