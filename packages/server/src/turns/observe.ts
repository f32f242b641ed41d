import { contextFingerprint } from "../context/fingerprint.ts";
import type { Logger } from "../telemetry/log.ts";
import type { Metrics } from "../telemetry/metrics.ts";
import type { Ending } from "./ending.ts";
import type { RunningTurn } from "./running.ts";
import type { Settlement } from "./settle.ts";
import type { CancelReason, Terminal } from "./turn.ts";

export interface ObserveDeps {
  readonly metrics: Metrics;
  readonly logger: Logger;
}

const abortedBy = {
  disconnect: "client_disconnect",
  user_stop: "user_stop",
  chat_deleted: "user_stop",
  server_shutdown: "internal_abort",
  timeout: "internal_abort",
} as const satisfies Record<CancelReason, string>;

/** Metrics and log of a turn its own stream has finalized; called after the commit. */
export const observeFinalized = (
  deps: ObserveDeps,
  turn: RunningTurn,
  terminal: Terminal,
  ending: Ending,
  settlement: Settlement,
): void => {
  const { metrics } = deps;
  const labels = { provider: turn.target.providerId, model: turn.model.id };
  if (ending.state === "completed") metrics.count("stream_completed", labels);
  if (ending.state === "completed" && ending.incomplete !== null) {
    metrics.count("stream_incomplete", { ...labels, reason: ending.incomplete });
  }
  if (ending.state === "failed") {
    metrics.count("stream_failed", { ...labels, error_code: ending.errorCode ?? "internal_error" });
  }
  if (settlement.bill.outcome === "aborted" && terminal.cancelReason !== null) {
    metrics.count("streams_aborted", { trigger: abortedBy[terminal.cancelReason] });
  }
  metrics.observe("stream_total_latency_ms", labels, performance.now() - turn.receivedAt);
  observeSettlement(deps, ending, settlement);
  deps.logger.info(
    {
      tenant_id: turn.actor.tenantId,
      user_id: turn.actor.userId,
      requester_type: turn.actor.subjectType,
      chat_id: turn.chatId,
      turn_id: turn.id,
      request_id: turn.requestId,
      trace_id: turn.traceId,
      provider_response_id: terminal.responseId,
      processing_stage: "finalization",
      duration_ms: Math.round(performance.now() - turn.receivedAt),
      state: ending.state,
      error_code: ending.errorCode,
      model: turn.model.id,
      context_hash: contextFingerprint(turn.request),
      settlement_method: settlement.bill.method,
    },
    "turn finalized",
  );
};

/** What settlement has to tell, whoever finalized the turn (quota.md §7, §14). */
export const observeSettlement = (deps: ObserveDeps, ending: Ending, settlement: Settlement): void => {
  const { metrics, logger } = deps;
  const { bill, row } = settlement;
  const ids = {
    tenant_id: ending.tenantId,
    chat_id: row.chatId,
    turn_id: row.id,
    request_id: row.requestId,
  };
  for (const anomaly of settlement.anomalies) {
    metrics.count("quota_reserve_anomaly", { period: anomaly.period });
    logger.error({ ...ids, ...anomaly }, "a quota row did not hold the turn's reserve; charged all the same");
  }
  if (bill.unknownErrorCode) {
    metrics.count("unknown_error_code");
    logger.critical(
      { ...ids, error_code: ending.errorCode },
      "a turn failed with a code outside the closed set",
    );
  }
  if (bill.method !== "actual") return;
  const periods = ["daily", "monthly"] as const;
  for (const period of periods) metrics.count("quota_commit", { period });
  metrics.observe("quota_actual_tokens", {}, Number(bill.actualTokens));
  if (bill.overshootTokens <= 0n) return;
  for (const period of periods) metrics.count("quota_overshoot", { period });
  metrics.observe("quota_overshoot_tokens", {}, Number(bill.overshootTokens));
  if (!bill.overshootCapped) return;
  metrics.count("quota_overshoot_exceeded");
  logger.error(
    {
      ...ids,
      actual_tokens: Number(bill.actualTokens),
      reserve_tokens: Number(row.reserve?.reserveTokens ?? 0),
    },
    "usage far above the reserve; the charge was capped at the reserve",
  );
};
