import type { StreamEvent } from "./grammar.ts";
import type { RunningTurn } from "./running.ts";

/** Whether a turn keeps a log to be resumed from (turns.md §16.2). */
export const isResumable = (turn: Pick<RunningTurn, "onDisconnect">): boolean =>
  turn.onDisconnect === "continue";

/** The first event of a turn's stream; place 0 of its log, written by transaction 1. */
export const startedEvent = (
  turn: Pick<RunningTurn, "requestId" | "messageId" | "context" | "onDisconnect">,
): StreamEvent => ({
  event: "stream_started",
  data: {
    request_id: turn.requestId,
    message_id: turn.messageId,
    is_new_turn: true,
    ...(turn.context.summaryTokens === null
      ? {}
      : { thread_summary_applied: { token_estimate: turn.context.summaryTokens } }),
  },
  ...(isResumable(turn) ? { seq: 0 } : {}),
});
