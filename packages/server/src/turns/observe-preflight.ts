import { AppError } from "../errors.ts";
import { type Balance, type Period, periods } from "../quota/cascade.ts";
import { CreditOverflowError } from "../quota/credits.ts";
import type { LockedQuota } from "../quota/store.ts";
import type { Logger } from "../telemetry/log.ts";
import type { Metrics } from "../telemetry/metrics.ts";
import type { Decided } from "./decide.ts";
import type { Plan } from "./preflight.ts";

interface ObserveDeps {
  readonly metrics: Metrics;
  readonly logger: Logger;
}

/** Metrics of an admitted turn, after its reserve was committed (quota.md §14). */
export const observeReserved = ({ metrics }: ObserveDeps, plan: Plan, decided: Decided): void => {
  const { model, decision } = decided.running;
  const labels = { decision: decision.kind, model: model.id, tier: model.tier };
  metrics.count("quota_preflight", labels);
  metrics.count("quota_preflight_v2", { kind: decided.images > 0 ? "image" : "text", ...labels });
  metrics.observe(
    "preflight_latency_ms",
    { decision: decision.kind },
    performance.now() - plan.request.receivedAt,
  );
  metrics.observe("quota_estimated_tokens", {}, Number(decided.reserve.reserveTokens));
  for (const period of periods) metrics.count("quota_reserve", { period });
  if (decision.kind === "downgrade") {
    metrics.count("quota_tier_downgrade", { from_tier: decision.fromTier, to_tier: model.tier });
  }
  for (const item of ["thread_summary", "recent_messages", "doc_summary"] as const) {
    metrics.count("context_truncation", { truncated_item: item }, decided.dropped[item]);
  }
  if (decided.images === 0) return;
  metrics.observe("image_inputs_per_turn", {}, decided.images);
  metrics.count("image_turns", { model: model.id });
  for (const period of periods) metrics.count("quota_image_commit", { period });
};

/** Metrics of a send that transaction 1 refused; the transaction is rolled back. */
export const observeRefused = ({ metrics, logger }: ObserveDeps, plan: Plan, error: unknown): void => {
  if (error instanceof CreditOverflowError) {
    metrics.count("credits_overflow");
    logger.critical(
      { part: error.part, model: plan.selectedModel, ...error.inputs },
      "credit arithmetic out of bounds",
    );
    return;
  }
  if (!(error instanceof AppError)) return;
  if (error.code === "images_disabled" || error.code === "unsupported_media") {
    metrics.count("media_rejected", { reason: error.code });
  }
  if (error.code !== "quota_exceeded") return;
  const selected = plan.policy.snapshot.modelCatalog.find((model) => model.id === plan.selectedModel);
  // quota.md §14: the cascade ends at the standard tier, other scopes count at the model's own.
  const tier = error.options.quotaScope === "tokens" ? "standard" : (selected?.tier ?? "premium");
  const labels = { decision: "reject", model: plan.selectedModel, tier } as const;
  metrics.count("quota_preflight", labels);
  metrics.count("quota_preflight_v2", {
    kind: error.options.quotaScope === "image_inputs" ? "image" : "text",
    ...labels,
  });
  metrics.observe(
    "preflight_latency_ms",
    { decision: "reject" },
    performance.now() - plan.request.receivedAt,
  );
};

/** A row already above its limit (quota.md §7.5), as a preflight finds it under its locks. */
export const observeBalances = ({ metrics }: ObserveDeps, plan: Plan, quota: LockedQuota): void => {
  const { limits } = plan.policy;
  const isAbove = (period: Period): boolean => {
    const over = (row: Balance, limit: bigint): boolean => row.spentCreditsMicro > limit;
    return (
      over(quota.balances.total[period], limits.standard[period]) ||
      over(quota.balances.premium[period], limits.premium[period])
    );
  };
  for (const period of periods) if (isAbove(period)) metrics.count("quota_negative", { period });
};
