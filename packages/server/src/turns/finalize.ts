import type { TenantId } from "../auth/actor.ts";
import type { Citation } from "../context/citations.ts";
import { type Db, isConnectionLost } from "../db/pool.ts";
import { inTransaction, isTransient, type Tx } from "../db/tx.ts";
import { sleep } from "../lib/sleep.ts";
import { type SummaryRules, summaryTrigger } from "../summaries/trigger.ts";
import { type CiteDeps, citationsOf } from "./cite.ts";
import type { AuditFacts, Ending } from "./ending.ts";
import { compareAndEnd, readTurnEnd } from "./finalize-store.ts";
import type { LoggedEvent, LogTail } from "./log-store.ts";
import { observeFinalized } from "./observe.ts";
import { outcomeEvents } from "./outcome.ts";
import type { RunningTurn } from "./running.ts";
import { MessagePersistenceError, type Settlement, settleEnded, type TurnOutbox } from "./settle.ts";
import type { Terminal, TerminalState } from "./turn.ts";

export interface FinalizeDeps extends CiteDeps {
  readonly db: Db;
  readonly outbox: TurnOutbox;
  /** `quota.overshoot_tolerance_factor` in basis points. */
  readonly overshootToleranceBp: bigint;
  readonly auditContent: boolean;
  /** Null when summaries are switched off. */
  readonly summaryRules: SummaryRules | null;
  /** Waits before the retries of a whole transaction (turns.md §10.3); tests shorten them. */
  readonly finalizeRetryMs?: readonly number[];
}

/** What became of a turn, told only after the commit. */
export type Finalized =
  | {
      readonly kind: "settled";
      readonly state: TerminalState;
      readonly errorCode: string | null;
      /** Mapped citations as stored with the message; empty unless completed. */
      readonly citations: readonly Citation[];
      /** The rest of a resumable turn's stream, as its log has it; null for every other turn. */
      readonly logged: readonly LoggedEvent[] | null;
    }
  /** Another finalizer was first. */
  | { readonly kind: "lost" }
  /** The database did not take it; the turn is left to the watchdog. */
  | { readonly kind: "unknown" };

const defaultRetryMs = [200, 1_000, 3_000] as const;

/**
 * Ends a turn (turns.md §10): the only way out of `running` besides the watchdog, which shares
 * `settleEnded`. State, quota, message, usage and audit event commit together or not at all. The
 * whole transaction is run again after a deadlock or a lost connection; a message that cannot be
 * stored turns a completed turn into `failed`/`message_persistence_failed` with the same usage.
 */
export const finalizeTurn = async (
  deps: FinalizeDeps,
  turn: RunningTurn,
  terminal: Terminal,
  log: LogTail | null = null,
): Promise<Finalized> => {
  const startedAt = performance.now();
  const citations = terminal.state === "completed" ? await citationsOf(deps, turn, terminal) : [];
  const retryMs = deps.finalizeRetryMs ?? defaultRetryMs;
  const closeLog = (open: Ending): Ending => (log === null ? open : withLog(open, turn, terminal, log));
  let ending = closeLog(endingOf(deps, turn, terminal, citations));
  let connectionLost = false;
  for (let attempt = 0; ; attempt += 1) {
    try {
      const settlement = await inTransaction(deps.db, (tx) => commitEnding(tx, deps, ending), {
        attempts: 1,
      });
      if (settlement === null) {
        // After a lost connection the winner may be our own commit, whose answer never arrived.
        if (connectionLost && (await isOurs(deps.db, turn.actor.tenantId, ending))) return settled(ending);
        deps.metrics.count("finalization_cas_lost", { caller: "stream" });
        return { kind: "lost" };
      }
      deps.metrics.observe("finalization_latency_ms", {}, performance.now() - startedAt);
      observeFinalized(deps, turn, terminal, ending, settlement);
      return settled(ending);
    } catch (error) {
      if (error instanceof MessagePersistenceError) {
        deps.logger.warn({ err: error.cause, turn_id: turn.id }, "the answer could not be stored");
        ending = closeLog(withoutMessage(ending));
        attempt -= 1;
        continue;
      }
      const wait = retryMs[attempt];
      if (wait === undefined || !isTransient(error)) {
        deps.logger.error({ err: error, turn_id: turn.id }, "finalization failed, left to the watchdog");
        return { kind: "unknown" };
      }
      connectionLost ||= isConnectionLost(error);
      deps.logger.warn({ err: error, turn_id: turn.id, attempt }, "finalization is tried again");
      await sleep(wait);
    }
  }
};

/** One run of transaction 2: two round trips. Null when the compare-and-set was lost. */
const commitEnding = async (tx: Tx, deps: FinalizeDeps, ending: Ending): Promise<Settlement | null> => {
  const row = await compareAndEnd(tx, ending);
  return row === null ? null : settleEnded(tx, deps, row, ending);
};

const settled = (ending: Ending): Finalized => ({
  kind: "settled",
  state: ending.state,
  errorCode: ending.errorCode,
  citations: citationsIn(ending),
  logged: ending.log?.events ?? null,
});

const citationsIn = (ending: Ending): readonly Citation[] =>
  ending.state === "completed" ? (ending.answer?.citations ?? []) : [];

/** The same end with what its log still lacks: the rest of the answer, and how it ended. */
const withLog = (ending: Ending, turn: RunningTurn, terminal: Terminal, log: LogTail): Ending => {
  const { state, errorCode } = ending;
  const outcome = outcomeEvents(turn, terminal, { state, errorCode, citations: citationsIn(ending) });
  const end = outcome.map((event, at) => ({ ...event, seq: log.nextSeq + at }));
  return { ...ending, log: { writer: "owner", events: [...log.events, ...end] } };
};

const endingOf = (
  deps: FinalizeDeps,
  turn: RunningTurn,
  terminal: Terminal,
  citations: readonly Citation[],
): Ending => {
  const keepsText =
    terminal.state === "completed" || (terminal.state === "cancelled" && terminal.content !== "");
  return {
    turnId: turn.id,
    tenantId: turn.actor.tenantId,
    state: terminal.state,
    errorCode: terminal.errorCode,
    cancelReason: terminal.cancelReason,
    errorDetail: storable(terminal.errorDetail),
    responseId: storableId(terminal.responseId),
    usage: terminal.usage,
    incomplete: terminal.incomplete,
    started: terminal.started,
    toolCounts: terminal.toolCounts,
    answer: keepsText
      ? { id: turn.messageId, content: terminal.content, model: turn.model.id, citations }
      : null,
    audit: auditFacts(turn, terminal, deps.auditContent),
    summary:
      terminal.state === "completed" && deps.summaryRules !== null
        ? summaryTrigger(deps.summaryRules, turn.model, turn.context)
        : null,
    log: null,
  };
};

/** Text of a provider may hold what PostgreSQL refuses; a turn must end all the same. */
const storable = (text: string | null): string | null => text?.toWellFormed().replaceAll("\0", "") ?? null;

const maxResponseIdChars = 128;

/** An id that does not fit its column identifies nothing and is left out. */
const storableId = (id: string | null): string | null =>
  id !== null && id.length <= maxResponseIdChars && !id.includes("\0") ? id : null;

const auditFacts = (turn: RunningTurn, terminal: Terminal, auditContent: boolean): AuditFacts => ({
  traceId: turn.traceId,
  latencyMs: terminal.latency,
  decision: turn.decision,
  attachments: turn.attachments,
  ...(auditContent ? { prompt: turn.prompt, response: terminal.content } : {}),
});

/** The same end without a message row (turns.md §10.3). */
const withoutMessage = (ending: Ending): Ending =>
  ending.state === "completed"
    ? {
        ...ending,
        state: "failed",
        errorCode: "message_persistence_failed",
        incomplete: null,
        errorDetail: "the assistant message could not be inserted",
        answer: null,
        summary: null,
      }
    : { ...ending, answer: null };

const isOurs = async (db: Db, tenantId: TenantId, ending: Ending): Promise<boolean> => {
  const stored = await readTurnEnd(db, tenantId, ending.turnId);
  return (
    stored !== null &&
    stored.state === ending.state &&
    stored.errorCode === ending.errorCode &&
    stored.assistantMessageId === (ending.answer?.id ?? null)
  );
};
