import type { ToolName } from "../providers/contract.ts";
import type { Metrics } from "../telemetry/metrics.ts";
import type { ToolCounts } from "./turn.ts";

const none: ToolCounts = { webSearch: 0, codeInterpreter: 0, fileSearch: 0 };

const add = (one: ToolCounts, other: ToolCounts): ToolCounts => ({
  webSearch: one.webSearch + other.webSearch,
  codeInterpreter: one.codeInterpreter + other.codeInterpreter,
  fileSearch: one.fileSearch + other.fileSearch,
});

/**
 * Persists finished tool calls as they happen, best effort (turns.md §8), one write at a time per turn:
 * what finishes meanwhile joins the next one, so a provider that reports thousands takes no connection
 * from others. What could not be written is tried again with the next call.
 */
export const createToolCallWriter = (
  write: (calls: ToolCounts) => Promise<void>,
  onError: (error: unknown) => void,
): ((calls: ToolCounts) => void) => {
  let waiting: ToolCounts | null = null;
  let writing = false;
  const drain = async (): Promise<void> => {
    writing = true;
    while (waiting !== null) {
      const calls: ToolCounts = waiting;
      waiting = null;
      try {
        await write(calls);
      } catch (error) {
        waiting = add(calls, waiting ?? none);
        onError(error);
        break;
      }
    }
    writing = false;
  };
  return (calls) => {
    waiting = add(waiting ?? none, calls);
    if (!writing) void drain();
  };
};

/** Told of every start and end of a tool call of one turn. */
export type ToolClock = (name: ToolName, phase: "start" | "done") => void;

const maxOpenCalls = 100;

/** Measures searches from start to end (ops.md §5). Of several at once the oldest counts as the one that ends. */
export const createToolClock = (
  metrics: Metrics,
  labels: { readonly provider: string; readonly model: string },
): ToolClock => {
  const open: Record<"web_search" | "file_search", number[]> = { web_search: [], file_search: [] };
  return (name, phase) => {
    if (name !== "web_search" && name !== "file_search") return;
    if (phase === "start") {
      if (open[name].length < maxOpenCalls) open[name].push(performance.now());
      return;
    }
    const startedAt = open[name].shift();
    if (startedAt === undefined) return;
    metrics.observe(`${name}_latency_ms`, labels, performance.now() - startedAt);
  };
};
