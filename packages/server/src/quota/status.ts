import type { Actor } from "../auth/actor.ts";
import type { Queryable, Timestamp } from "../db/pool.ts";
import type { EffectivePolicy, UserLimits } from "../policy/snapshot.ts";
import { type Period, periods } from "./cascade.ts";
import { nextReset } from "./periods.ts";
import { type CurrentUsage, readCurrentUsage } from "./status-store.ts";

/** One period of a tier as clients see it (quota.md §10); amounts in micro-credits. */
export interface PeriodStatus {
  readonly period: Period;
  readonly limit_credits_micro: bigint;
  /** Settled and reserved; may exceed the limit. */
  readonly used_credits_micro: bigint;
  readonly remaining_credits_micro: bigint;
  /** Rounded down, 0–100. */
  readonly remaining_percentage: number;
  readonly next_reset: Timestamp;
  readonly warning: boolean;
  /** True as soon as less than one per cent is left. */
  readonly exhausted: boolean;
}

export interface TierStatus {
  readonly tier: "premium" | "total";
  /** Without those whose limit is closed. */
  readonly periods: PeriodStatus[];
}

export interface QuotaStatus {
  readonly warning_threshold_pct: number;
  readonly tiers: TierStatus[];
}

/** One entry of `quota_warnings` in `done` (quota.md §11). */
export interface QuotaWarning
  extends Pick<PeriodStatus, "period" | "remaining_percentage" | "warning" | "exhausted"> {
  readonly tier: TierStatus["tier"];
  /** Only where `warning` or `exhausted` is true. */
  readonly next_reset?: Timestamp;
}

/** The status of a user's limits (quota.md §10): premium before total, daily before monthly. Pure. */
export const quotaStatus = (
  limits: UserLimits,
  usage: CurrentUsage,
  warningThresholdPct: number,
): QuotaStatus => {
  const tierStatus = (tier: TierStatus["tier"]): TierStatus => ({
    tier,
    periods: periods.flatMap((period): PeriodStatus[] => {
      const limit = limits[tier === "total" ? "standard" : "premium"][period];
      if (limit <= 0n) return [];
      const { spentCreditsMicro, reservedCreditsMicro } = usage.balances[tier][period];
      const used = spentCreditsMicro + reservedCreditsMicro;
      const remaining = used < limit ? limit - used : 0n;
      const percentage = Number((remaining * 100n) / limit);
      return [
        {
          period,
          limit_credits_micro: limit,
          used_credits_micro: used,
          remaining_credits_micro: remaining,
          remaining_percentage: percentage,
          next_reset: nextReset(period, usage.periods[period]),
          warning: percentage <= 100 - warningThresholdPct,
          exhausted: percentage === 0,
        },
      ];
    }),
  });
  return { warning_threshold_pct: warningThresholdPct, tiers: [tierStatus("premium"), tierStatus("total")] };
};

/** The status flattened for the `done` event, in the same order (quota.md §11). Pure. */
export const quotaWarnings = (status: QuotaStatus): readonly QuotaWarning[] =>
  status.tiers.flatMap(({ tier, periods: ofTier }) =>
    ofTier.map(({ period, remaining_percentage, warning, exhausted, next_reset }) => ({
      tier,
      period,
      remaining_percentage,
      warning,
      exhausted,
      ...(warning || exhausted ? { next_reset } : {}),
    })),
  );

export interface QuotaStatusDeps {
  readonly db: Queryable;
  readonly policy: { resolve(actor: Actor): Promise<EffectivePolicy> };
  /** `quota.warning_threshold_pct`. */
  readonly warningThresholdPct: number;
}

/** The caller's status now, with the limits of his current policy version. Read-only. */
export const readQuotaStatus = async (deps: QuotaStatusDeps, actor: Actor): Promise<QuotaStatus> => {
  const [policy, usage] = await Promise.all([deps.policy.resolve(actor), readCurrentUsage(deps.db, actor)]);
  return quotaStatus(policy.limits, usage, deps.warningThresholdPct);
};

/** Where the caller stands after a commit; rejects when it cannot be told. */
export const readQuotaWarnings = async (
  deps: QuotaStatusDeps,
  actor: Actor,
): Promise<readonly QuotaWarning[]> => quotaWarnings(await readQuotaStatus(deps, actor));
