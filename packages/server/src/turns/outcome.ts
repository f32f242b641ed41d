import type { Citation } from "../context/citations.ts";
import type { StreamEvent } from "./grammar.ts";
import type { RunningTurn } from "./running.ts";
import type { Terminal, TerminalState } from "./turn.ts";

/** The event that ends a stream without success. */
export const errorEvent = (code: string, message: string): StreamEvent => ({
  event: "error",
  data: { code, message },
});

/** How a turn ended, as far as its client is told. */
export interface Outcome {
  readonly state: TerminalState;
  readonly errorCode: string | null;
  readonly citations: readonly Citation[];
}

/**
 * The end of the stream (turns.md §10.4): citations and `done` for a completed turn, `error`
 * otherwise. What the log of a resumable turn keeps, therefore without quota warnings, as in a replay.
 */
export const outcomeEvents = (
  turn: Pick<RunningTurn, "model" | "selectedModel" | "decision">,
  terminal: Pick<Terminal, "usage" | "message">,
  outcome: Outcome,
): readonly StreamEvent[] => {
  if (outcome.state === "cancelled") return [errorEvent("cancelled", "The turn was cancelled.")];
  if (outcome.state === "failed") {
    return [errorEvent(outcome.errorCode ?? "internal_error", terminal.message || "The turn failed.")];
  }
  const done = doneEvent(turn, terminal);
  const { citations } = outcome;
  return citations.length > 0 ? [{ event: "citations", data: { items: citations } }, done] : [done];
};

const doneEvent = (
  { decision, model, selectedModel }: Pick<RunningTurn, "model" | "selectedModel" | "decision">,
  { usage }: Pick<Terminal, "usage">,
): StreamEvent => ({
  event: "done",
  data: {
    usage: usage === null ? null : { input_tokens: usage.inputTokens, output_tokens: usage.outputTokens },
    effective_model: model.id,
    selected_model: selectedModel,
    quota_decision: decision.kind,
    ...(decision.kind === "downgrade"
      ? { downgrade_from: decision.from, downgrade_reason: decision.reason }
      : {}),
  },
});
