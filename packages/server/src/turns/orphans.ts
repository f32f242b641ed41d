import { type Db, violatedConstraint } from "../db/pool.ts";
import { inTransaction } from "../db/tx.ts";
import type { Logger } from "../telemetry/log.ts";
import type { Metrics } from "../telemetry/metrics.ts";
import type { Ending } from "./ending.ts";
import {
  compareAndEndOrphan,
  type FinalizedRow,
  type OrphanCandidate,
  type OrphanLimits,
  scanOrphansAcrossTenants,
} from "./finalize-store.ts";
import { type LogSummary, readLog } from "./log-store.ts";
import { type OrphanReason, observeOrphan } from "./observe-orphan.ts";
import { errorEvent } from "./outcome.ts";
import { MessagePersistenceError, type Settlement, settleEnded, type TurnOutbox } from "./settle.ts";

export interface OrphanDeps {
  readonly db: Db;
  readonly outbox: TurnOutbox;
  readonly metrics: Metrics;
  readonly logger: Logger;
  readonly overshootToleranceBp: bigint;
  /** The turns that could not be finalized, kept from scan to scan: the others come before them. */
  readonly failing?: Set<string>;
}

const maxPerScan = 100;

// Ten scans of nothing but failures; beyond them the oldest are tried again among the others.
const maxFailing = 1_000;

/**
 * One scan of the watchdog (turns.md §12): finalizes turns whose process died, oldest first, each in
 * its own transaction. A turn that finished or moved meanwhile is skipped; a row that fails does
 * not stop the scan, and comes behind all others in the next one; the signal stops it between rows. Returns how many it finalized.
 */
export const finalizeOrphans = async (
  deps: OrphanDeps,
  limits: OrphanLimits,
  signal: AbortSignal,
): Promise<number> => {
  const startedAt = performance.now();
  const failing = deps.failing ?? new Set<string>();
  const candidates = await scanOrphansAcrossTenants(deps.db, limits, {
    limit: maxPerScan,
    last: [...failing],
  });
  let finalized = 0;
  if (candidates[0]?.told === false) {
    deps.logger.warn(
      { turns: candidates.length, processing_stage: "watchdog" },
      "turns look abandoned, but since the start or an outage no process has reported for long enough to tell",
    );
  }
  for (const candidate of candidates.filter(({ told }) => told)) {
    if (signal.aborted) break;
    deps.metrics.count("orphan_detected", { reason: reasonOf(candidate) });
    try {
      if (await finalizeOrphan(deps, candidate, limits)) finalized += 1;
      failing.delete(candidate.id);
    } catch (error) {
      remember(failing, candidate.id);
      deps.logger.error(
        {
          err: error,
          tenant_id: candidate.tenantId,
          chat_id: candidate.chatId,
          turn_id: candidate.id,
          request_id: candidate.requestId,
          processing_stage: "watchdog",
        },
        "orphan not finalized",
      );
    }
  }
  deps.metrics.observe("orphan_scan_duration_seconds", {}, (performance.now() - startedAt) / 1_000);
  return finalized;
};

const remember = (failing: Set<string>, turnId: string): void => {
  failing.add(turnId);
  for (const oldest of failing) {
    if (failing.size <= maxFailing) return;
    failing.delete(oldest);
  }
};

const reasonOf = (candidate: OrphanCandidate): OrphanReason =>
  candidate.deadOwner ? "dead_owner" : "stale_progress";

/** False when the turn was not an orphan any more. */
const finalizeOrphan = async (
  deps: OrphanDeps,
  candidate: OrphanCandidate,
  limits: OrphanLimits,
): Promise<boolean> => {
  const settled = await endOrphan(deps, candidate, limits, true).catch((error: unknown) => {
    // The same end without the message that could not be stored (turns.md §10.3).
    if (error instanceof MessagePersistenceError) return endOrphan(deps, candidate, limits, false);
    // Its owner lives and has appended to its log in the meantime, or ended it.
    if (violatedConstraint(error) === "turn_events_pkey") return null;
    throw error;
  });
  if (settled === null) {
    deps.metrics.count("finalization_cas_lost", { caller: "watchdog" });
    return false;
  }
  if (candidate.cancelRequested) deps.metrics.count("cancel_orphan");
  observeOrphan(deps, settled.ending, settled.settlement, reasonOf(candidate));
  return true;
};

interface Settled {
  readonly ending: Ending;
  readonly settlement: Settlement;
}

const endOrphan = (
  deps: OrphanDeps,
  candidate: OrphanCandidate,
  limits: OrphanLimits,
  keepText: boolean,
): Promise<Settled | null> =>
  inTransaction(deps.db, async (tx) => {
    // Read before the end is decided; whatever is appended behind it takes the place of the log's end.
    const log = candidate.resumable ? await readLog(tx, candidate) : null;
    const end = endOf(candidate, keepText ? log : null);
    const row = await compareAndEndOrphan(tx, end, limits);
    if (row === null) return null;
    const ending = { ...end, ...keptOf(row, end, log) };
    return { ending, settlement: await settleEnded(tx, deps, row, ending) };
  });

type OrphanEnd = Omit<Ending, "answer" | "log"> & { readonly kept: LogSummary | null };

// Whatever the dead process had received beyond its log is unknown: no usage, tool calls as persisted.
const endOf = (candidate: OrphanCandidate, log: LogSummary | null): OrphanEnd => {
  // Text that was delivered is kept, and `failed` has no message (turns.md §10.5, §13).
  const kept = log?.complete && log.text !== "" && log.messageId !== null ? log : null;
  // A turn that was asked to stop and whose owner died ends as asked (turns.md §12, Beyond).
  const cancelled = kept !== null || (candidate.deadOwner && candidate.cancelRequested);
  return {
    turnId: candidate.id,
    tenantId: candidate.tenantId,
    state: cancelled ? "cancelled" : "failed",
    errorCode: cancelled ? null : "orphan_timeout",
    cancelReason: null,
    errorDetail: kept === null ? null : "the process died; the text is that of the log",
    responseId: null,
    usage: null,
    incomplete: null,
    started: true,
    toolCounts: null,
    audit: { latencyMs: {}, decision: null, attachments: [] },
    summary: null,
    kept,
  };
};

const keptOf = (
  row: FinalizedRow,
  end: OrphanEnd,
  log: LogSummary | null,
): Pick<Ending, "answer" | "log"> => {
  const { kept } = end;
  const model = row.reserve?.effectiveModel ?? row.selectedModel;
  const closing =
    end.errorCode === null
      ? errorEvent("cancelled", "The answer was interrupted; what there was of it is kept.")
      : errorEvent(end.errorCode, "The answer was interrupted.");
  return {
    answer: kept?.messageId == null ? null : { id: kept.messageId, content: kept.text, model, citations: [] },
    log: log === null ? null : { writer: "watchdog", events: [{ ...closing, seq: log.lastSeq + 1 }] },
  };
};
