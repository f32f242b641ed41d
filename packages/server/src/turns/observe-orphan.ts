import type { Ending } from "./ending.ts";
import { type ObserveDeps, observeSettlement } from "./observe.ts";
import type { Settlement } from "./settle.ts";

export type OrphanReason = "dead_owner" | "stale_progress";

/** Metrics and log of a turn the watchdog has finalized (ops.md §5, §6); called after the commit. */
export const observeOrphan = (
  deps: ObserveDeps,
  ending: Ending,
  settlement: Settlement,
  reason: OrphanReason,
): void => {
  const { metrics, logger } = deps;
  const { row, bill } = settlement;
  const model = row.reserve?.effectiveModel ?? row.selectedModel;
  metrics.count("orphan_finalized", { reason });
  if (bill.outcome === "aborted") metrics.count("streams_aborted", { trigger: "orphan_timeout" });
  if (ending.state === "failed") {
    metrics.count("stream_failed", {
      provider: row.providerName ?? "other",
      model,
      error_code: ending.errorCode ?? "internal_error",
    });
  }
  observeSettlement(deps, ending, settlement);
  logger.warn(
    {
      tenant_id: ending.tenantId,
      user_id: row.requesterUserId,
      requester_type: row.requesterType,
      chat_id: row.chatId,
      turn_id: row.id,
      request_id: row.requestId,
      processing_stage: "watchdog",
      state: ending.state,
      error_code: ending.errorCode,
      model,
      settlement_method: bill.method,
      reason,
    },
    "orphaned turn finalized",
  );
};
