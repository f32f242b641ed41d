import type { ApiParams } from "../providers/contract.ts";
import type { EstimationBudgets } from "../quota/estimate.ts";

/** The shared part of a tenant's policy: immutable once published (policy.md §1). */
export interface PolicySnapshot {
  readonly policyVersion: bigint;
  /** In catalog order, which decides defaults. */
  readonly modelCatalog: readonly ModelEntry[];
  readonly killSwitches: KillSwitches;
}

/** One model of the catalog (policy.md §2). Multipliers in micro-credits per million tokens. */
export interface ModelEntry {
  readonly id: string;
  readonly providerModelId: string;
  readonly providerId: string;
  readonly providerDisplayName: string;
  readonly displayName: string;
  readonly description: string;
  readonly icon: string;
  readonly tier: "standard" | "premium";
  readonly enabled: boolean;
  readonly multimodalCapabilities: readonly string[];
  readonly contextWindow: number;
  readonly maxInputTokens: number;
  readonly maxOutputTokens: number;
  readonly inputMultiplierMicro: bigint;
  readonly outputMultiplierMicro: bigint;
  readonly multiplierDisplay: string;
  readonly estimationBudgets: EstimationBudgets;
  readonly maxNumResults: number;
  readonly webSearchContextSize: "low" | "medium" | "high";
  readonly maxToolCalls: number;
  readonly systemPrompt: string;
  readonly threadSummaryPrompt: string;
  readonly preference?: { readonly isDefault: boolean; readonly sortOrder: number };
  readonly generalConfig: GeneralConfig;
}

export interface GeneralConfig {
  readonly maxFileSizeMb: number;
  readonly apiParams: ApiParams;
  readonly toolSupport: ToolSupport;
}

export interface ToolSupport {
  readonly webSearch: boolean;
  readonly fileSearch: boolean;
  readonly codeInterpreter: boolean;
  readonly imageGeneration: boolean;
  readonly mcp: boolean;
}

export interface KillSwitches {
  readonly forceStandardTier: boolean;
  readonly disablePremiumTier: boolean;
  readonly disableWebSearch: boolean;
  readonly disableFileSearch: boolean;
  readonly disableImages: boolean;
  readonly disableCodeInterpreter: boolean;
}

/** Credit limits of one user (policy.md §8), in micro-credits; `standard` is the ceiling over all tiers. */
export interface UserLimits {
  readonly standard: { readonly daily: bigint; readonly monthly: bigint };
  readonly premium: { readonly daily: bigint; readonly monthly: bigint };
}

/** What applies to one user: the snapshot of the tenant's version, and his limits at that version. */
export interface EffectivePolicy {
  readonly version: bigint;
  readonly snapshot: PolicySnapshot;
  readonly limits: UserLimits;
}
