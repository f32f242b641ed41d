import type { Actor } from "../auth/actor.ts";
import type { Db } from "../db/pool.ts";
import type { QuotaWarning } from "../quota/status.ts";
import type { Logger } from "../telemetry/log.ts";
import type { Finalized } from "./finalize.ts";
import type { StreamEvent } from "./grammar.ts";
import { errorEvent, outcomeEvents } from "./outcome.ts";
import type { RunningTurn } from "./running.ts";
import type { Terminal } from "./turn.ts";

export interface ClosingDeps {
  readonly db: Db;
  readonly logger: Logger;
  /** Where the caller's quota stands after the commit. */
  readonly readQuotaWarnings: (actor: Actor) => Promise<readonly QuotaWarning[]>;
}

/**
 * The end of the stream as the turn's own client is told it, after the commit (turns.md §10.4). Success
 * that is not committed is never announced.
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
  const events = finalized.logged ?? outcomeEvents(turn, terminal, finalized);
  return finalized.state === "completed" ? withWarnings(deps, turn, events) : events;
};

const withWarnings = async (
  deps: ClosingDeps,
  turn: RunningTurn,
  events: readonly StreamEvent[],
): Promise<readonly StreamEvent[]> => {
  const warnings = await deps.readQuotaWarnings(turn.actor).catch((error: unknown) => {
    deps.logger.warn({ err: error, turn_id: turn.id }, "quota warnings not available");
    return undefined;
  });
  if (warnings === undefined) return events;
  return events.map((event) =>
    event.event === "done" ? { ...event, data: { ...event.data, quota_warnings: warnings } } : event,
  );
};
