import { ceilDiv } from "../quota/credits.ts";
import type { EstimationBudgets } from "../quota/estimate.ts";

/**
 * Tokens of one context item, rounded down (context.md §4.1). The estimate of a whole request,
 * rounded up, is `textTokens` of the quota.
 */
export const itemTokens = (text: string, budgets: EstimationBudgets): number =>
  sizedTokens(Buffer.byteLength(text), budgets);

/** As `itemTokens`, of a text of so many bytes. */
export const sizedTokens = (bytes: number, budgets: EstimationBudgets): number => {
  const base =
    ceilDiv(BigInt(bytes), BigInt(budgets.bytesPerTokenConservative)) + BigInt(budgets.fixedOverheadTokens);
  return Number((base * BigInt(100 + budgets.safetyMarginPct)) / 100n);
};

/** The longest text, in bytes, whose `itemTokens` are at most so many; 0 when there is none. */
export const bytesWithin = (tokens: number, budgets: EstimationBudgets): number => {
  const base = Math.floor((tokens * 100) / (100 + budgets.safetyMarginPct));
  return Math.max(0, base - budgets.fixedOverheadTokens) * budgets.bytesPerTokenConservative;
};

/** Tokens of a text by itself, rounded up: what is stored of a summary (context.md §6.3). */
export const plainTokens = (text: string, budgets: EstimationBudgets): number =>
  Math.ceil(Buffer.byteLength(text) / budgets.bytesPerTokenConservative);
