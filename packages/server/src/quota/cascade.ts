import type { ModelEntry, PolicySnapshot, UserLimits } from "../policy/snapshot.ts";
import { creditsMicro } from "./credits.ts";
import type { OfferedTools } from "./estimate.ts";

export type Tier = "standard" | "premium";
export type Period = "daily" | "monthly";

/** Why a turn runs on another model than the selected one. */
export type DowngradeReason =
  | "premium_quota_exhausted"
  | "force_standard_tier"
  | "disable_premium_tier"
  | "model_disabled";

/** One row of `quota_usage` as far as a decision needs it; absent rows read as zeros. */
export interface Balance {
  readonly spentCreditsMicro: bigint;
  readonly reservedCreditsMicro: bigint;
}

/** The four rows of a turn's periods. */
export interface Balances {
  readonly total: Readonly<Record<Period, Balance>>;
  readonly premium: Readonly<Record<Period, Balance>>;
}

export const zeroBalance: Balance = { spentCreditsMicro: 0n, reservedCreditsMicro: 0n };

/** A model of a tier with exactly the reserve that would be written for it (quota.md §6.2). */
export interface Candidate {
  readonly model: ModelEntry;
  readonly offered: OfferedTools;
  readonly estimatedInputTokens: bigint;
  readonly maxOutputTokensApplied: number;
  readonly reserveTokens: bigint;
  readonly reservedCreditsMicro: bigint;
}

export type Decision =
  | { readonly kind: "allow"; readonly candidate: Candidate }
  | {
      readonly kind: "downgrade";
      readonly candidate: Candidate;
      readonly from: string;
      readonly fromTier: Tier;
      readonly reason: DowngradeReason;
    }
  | { readonly kind: "reject" };

export interface CascadeInput {
  readonly snapshot: PolicySnapshot;
  readonly selectedModel: string;
  readonly limits: UserLimits;
  readonly balances: Balances;
  /** Tools and input estimate of a request to this model. */
  readonly measure: (model: ModelEntry) => { offered: OfferedTools; estimatedInputTokens: bigint };
  /** `streaming.max_output_tokens`. */
  readonly maxOutputTokens: number;
}

/** The model a tier would answer with: the selected one, else the tier's default, else its first. */
export const candidateModel = (
  snapshot: PolicySnapshot,
  tier: Tier,
  selectedModel: string,
): ModelEntry | undefined => {
  const enabled = snapshot.modelCatalog.filter((model) => model.tier === tier && model.enabled);
  return (
    enabled.find((model) => model.id === selectedModel) ??
    enabled.find((model) => model.preference?.isDefault === true) ??
    enabled[0]
  );
};

const candidateOf = (input: CascadeInput, model: ModelEntry): Candidate => {
  const { offered, estimatedInputTokens } = input.measure(model);
  const maxOutputTokensApplied = Math.min(model.maxOutputTokens, input.maxOutputTokens);
  return {
    model,
    offered,
    estimatedInputTokens,
    maxOutputTokensApplied,
    reserveTokens: estimatedInputTokens + BigInt(maxOutputTokensApplied),
    reservedCreditsMicro: creditsMicro(
      estimatedInputTokens,
      BigInt(maxOutputTokensApplied),
      model.inputMultiplierMicro,
      model.outputMultiplierMicro,
    ),
  };
};

export const periods = ["daily", "monthly"] as const satisfies readonly Period[];

/** Whether a reserve fits every bucket and period of its tier; equality passes (quota.md §6.5). */
export const tierAvailable = (tier: Tier, reserve: bigint, balances: Balances, limits: UserLimits): boolean =>
  periods.every((period) => {
    const fits = (row: Balance, limit: bigint): boolean =>
      row.spentCreditsMicro + row.reservedCreditsMicro + reserve <= limit;
    return (
      fits(balances.total[period], limits.standard[period]) &&
      (tier === "standard" || fits(balances.premium[period], limits.premium[period]))
    );
  });

/**
 * Which model answers (quota.md §6.3): premium, then standard, each with its own reserve; the first
 * reason for leaving the selected model wins. Throws `CreditOverflowError`.
 */
export const runCascade = (input: CascadeInput): Decision => {
  const { snapshot, selectedModel } = input;
  const { killSwitches } = snapshot;
  const selected = snapshot.modelCatalog.find((model) => model.id === selectedModel);
  const selectedTier: Tier = selected?.tier ?? "premium";
  let reason: DowngradeReason | null = selected?.enabled === true ? null : "model_disabled";
  for (const tier of selectedTier === "premium"
    ? (["premium", "standard"] as const)
    : (["standard"] as const)) {
    if (tier === "premium" && killSwitches.forceStandardTier) {
      reason ??= "force_standard_tier";
      continue;
    }
    if (tier === "premium" && killSwitches.disablePremiumTier) {
      reason ??= "disable_premium_tier";
      continue;
    }
    const model = candidateModel(snapshot, tier, selectedModel);
    if (model === undefined) continue;
    const candidate = candidateOf(input, model);
    if (!tierAvailable(tier, candidate.reservedCreditsMicro, input.balances, input.limits)) {
      if (tier === "premium") reason ??= "premium_quota_exhausted";
      continue;
    }
    if (model.id === selectedModel && reason === null) return { kind: "allow", candidate };
    return {
      kind: "downgrade",
      candidate,
      from: selectedModel,
      fromTier: selectedTier,
      // Leaving the selected model without a reason so far means that it is not in the catalog.
      reason: reason ?? "model_disabled",
    };
  }
  return { kind: "reject" };
};
