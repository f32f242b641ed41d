import type { Db } from "../db/pool.ts";
import { inTransaction } from "../db/tx.ts";
import type { Logger } from "../telemetry/log.ts";
import type { Metrics } from "../telemetry/metrics.ts";
import type { Ending } from "./ending.ts";
import {
  compareAndEndOrphan,
  type OrphanCandidate,
  type OrphanLimits,
  scanOrphansAcrossTenants,
} from "./finalize-store.ts";
import { observeSettlement } from "./observe.ts";
import { settleEnded, type TurnOutbox } from "./settle.ts";

export interface OrphanDeps {
  readonly db: Db;
  readonly outbox: TurnOutbox;
  readonly metrics: Metrics;
  readonly logger: Logger;
  readonly overshootToleranceBp: bigint;
  /** The turns that could not be finalized, kept from scan to scan: the others come before them. */
  readonly failing?: Set<string>;
}

/** Advisory lock of this job (ops.md §8). */
export const orphanLockId = 1;

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
  for (const candidate of candidates) {
    if (signal.aborted) break;
    deps.metrics.count("orphan_detected", { reason: reasonOf(candidate) });
    try {
      if (await finalizeOrphan(deps, candidate, limits)) finalized += 1;
      failing.delete(candidate.id);
    } catch (error) {
      remember(failing, candidate.id);
      deps.logger.error({ err: error, turn_id: candidate.id }, "orphan not finalized");
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

const reasonOf = (candidate: OrphanCandidate): "dead_owner" | "stale_progress" =>
  candidate.deadOwner ? "dead_owner" : "stale_progress";

/** False when the turn was not an orphan any more. */
const finalizeOrphan = async (
  deps: OrphanDeps,
  candidate: OrphanCandidate,
  limits: OrphanLimits,
): Promise<boolean> => {
  const ending = endingOf(candidate);
  const settlement = await inTransaction(deps.db, async (tx) => {
    const row = await compareAndEndOrphan(tx, ending, limits);
    return row === null ? null : settleEnded(tx, deps, row, ending);
  });
  if (settlement === null) {
    deps.metrics.count("finalization_cas_lost", { caller: "watchdog" });
    return false;
  }
  const reason = reasonOf(candidate);
  deps.metrics.count("orphan_finalized", { reason });
  deps.metrics.count("streams_aborted", { trigger: "orphan_timeout" });
  if (candidate.cancelRequested) deps.metrics.count("cancel_orphan");
  observeSettlement(deps, ending, settlement);
  deps.logger.warn({ turn_id: candidate.id, reason }, "orphaned turn finalized");
  return true;
};

// Whatever the dead process had sent is unknown: no message, no usage, tool calls as persisted.
const endingOf = (candidate: OrphanCandidate): Ending => {
  // A turn that was asked to stop and whose owner died ends as asked (turns.md §12, Beyond).
  const cancelled = candidate.deadOwner && candidate.cancelRequested;
  return {
    turnId: candidate.id,
    tenantId: candidate.tenantId,
    state: cancelled ? "cancelled" : "failed",
    errorCode: cancelled ? null : "orphan_timeout",
    cancelReason: null,
    errorDetail: null,
    responseId: null,
    usage: null,
    incomplete: null,
    started: true,
    toolCounts: null,
    answer: null,
    audit: { latencyMs: {}, decision: null, attachments: [] },
    summary: null,
  };
};
