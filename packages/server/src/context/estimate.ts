import { ceilDiv } from "../quota/credits.ts";
import type { EstimationBudgets } from "../quota/estimate.ts";

/**
 * Tokens of one context item, rounded down (context.md §4.1). The estimate of a whole request,
 * rounded up, is `textTokens` of the quota.
 */
export const itemTokens = (text: string, budgets: EstimationBudgets): number => {
  const base =
    ceilDiv(BigInt(Buffer.byteLength(text)), BigInt(budgets.bytesPerTokenConservative)) +
    BigInt(budgets.fixedOverheadTokens);
  return Number((base * BigInt(100 + budgets.safetyMarginPct)) / 100n);
};

/** Tokens of a text by itself, rounded up: what is stored of a summary (context.md §6.3). */
export const plainTokens = (text: string, budgets: EstimationBudgets): number =>
  Math.ceil(Buffer.byteLength(text) / budgets.bytesPerTokenConservative);
