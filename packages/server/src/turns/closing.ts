import type { Actor } from "../auth/actor.ts";
import type { Db } from "../db/pool.ts";
import type { QuotaWarning } from "../quota/status.ts";
import type { Logger } from "../telemetry/log.ts";
import type { Finalized } from "./finalize.ts";
import type { StreamEvent } from "./grammar.ts";
import type { RunningTurn } from "./running.ts";
import type { Terminal } from "./turn.ts";

export interface ClosingDeps {
  readonly db: Db;
  readonly logger: Logger;
  /** Where the caller's quota stands after the commit. */
  readonly readQuotaWarnings: (actor: Actor) => Promise<readonly QuotaWarning[]>;
}

const errorEvent = (code: string, message: string): StreamEvent => ({
  event: "error",
  data: { code, message },
});

/**
 * The end of the stream, told after the commit (turns.md §10.4): citations and `done` for a
 * completed turn, `error` otherwise. Success that is not committed is never announced.
 */
export const closingEvents = async (
  deps: ClosingDeps,
  turn: RunningTurn,
  terminal: Terminal,
  finalized: Finalized,
): Promise<readonly StreamEvent[]> => {
  if (finalized.kind === "lost") {
    return [errorEvent("stream_interrupted", "The stream was interrupted; ask for the turn's status.")];
  }
  if (finalized.kind === "unknown") {
    return [errorEvent("finalization_failed", "The answer could not be stored; ask for the turn's status.")];
  }
  if (finalized.state === "cancelled") return [errorEvent("cancelled", "The turn was cancelled.")];
  if (finalized.state === "failed") {
    return [errorEvent(finalized.errorCode ?? "internal_error", terminal.message || "The turn failed.")];
  }
  const done = await doneEvent(deps, turn, terminal);
  const { citations } = finalized;
  return citations.length > 0 ? [{ event: "citations", data: { items: citations } }, done] : [done];
};

const doneEvent = async (deps: ClosingDeps, turn: RunningTurn, terminal: Terminal): Promise<StreamEvent> => {
  const { decision } = turn;
  const warnings = await deps.readQuotaWarnings(turn.actor).catch((error: unknown) => {
    deps.logger.warn({ err: error, turn_id: turn.id }, "quota warnings not available");
    return undefined;
  });
  return {
    event: "done",
    data: {
      usage:
        terminal.usage === null
          ? null
          : { input_tokens: terminal.usage.inputTokens, output_tokens: terminal.usage.outputTokens },
      effective_model: turn.model.id,
      selected_model: turn.selectedModel,
      quota_decision: decision.kind,
      ...(decision.kind === "downgrade"
        ? { downgrade_from: decision.from, downgrade_reason: decision.reason }
        : {}),
      ...(warnings === undefined ? {} : { quota_warnings: warnings }),
    },
  };
};
