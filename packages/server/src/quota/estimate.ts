import { ceilDiv } from "./credits.ts";

/** Token estimates of a deployment or a model (quota.md §13, policy.md §2). */
export interface EstimationBudgets {
  readonly bytesPerTokenConservative: number;
  readonly fixedOverheadTokens: number;
  readonly safetyMarginPct: number;
  readonly imageTokenBudget: number;
  readonly toolSurchargeTokens: number;
  readonly webSearchSurchargeTokens: number;
  readonly codeInterpreterSurchargeTokens: number;
  readonly minimalGenerationFloor: number;
}

/** The tools a request to one candidate model would carry (policy.md §5). */
export interface OfferedTools {
  readonly fileSearch: boolean;
  readonly webSearch: boolean;
  readonly codeInterpreter: boolean;
}

/** Tokens of a text, rounded up, without surcharges or history (quota.md §3). */
export const textTokens = (utf8Bytes: number, budgets: EstimationBudgets): bigint => {
  const base =
    ceilDiv(BigInt(utf8Bytes), BigInt(budgets.bytesPerTokenConservative)) +
    BigInt(budgets.fixedOverheadTokens);
  return ceilDiv(base * BigInt(100 + budgets.safetyMarginPct), 100n);
};

/** Surcharges of the offered tools, once per turn however often a tool runs. */
export const surchargeTokens = (offered: OfferedTools, budgets: EstimationBudgets): number =>
  (offered.fileSearch ? budgets.toolSurchargeTokens : 0) +
  (offered.webSearch ? budgets.webSearchSurchargeTokens : 0) +
  (offered.codeInterpreter ? budgets.codeInterpreterSurchargeTokens : 0);

/** Everything a request is expected to bring to the provider (quota.md §3), with the deployment's budgets. */
export const estimateInputTokens = (
  input: {
    readonly utf8Bytes: number;
    readonly images: number;
    readonly offered: OfferedTools;
    readonly priorContextTokens: bigint;
  },
  budgets: EstimationBudgets,
): bigint =>
  textTokens(input.utf8Bytes, budgets) +
  BigInt(input.images * budgets.imageTokenBudget) +
  BigInt(surchargeTokens(input.offered, budgets)) +
  input.priorContextTokens;
