import { creditsMicro, maxTokens } from "./credits.ts";

export type SettlementMethod = "actual" | "estimated" | "released";

/** The reserve-time columns a settlement works from; nothing else decides (quota.md §7.2). */
export interface ReserveTerms {
  readonly reserveTokens: bigint;
  readonly reservedCreditsMicro: bigint;
  readonly maxOutputTokensApplied: number;
  readonly minimalGenerationFloorApplied: number;
  readonly inputMultiplierMicro: bigint;
  readonly outputMultiplierMicro: bigint;
}

export interface Charge {
  readonly committedCreditsMicro: bigint;
  readonly chargedTokens: bigint;
  /** As reported; 0 unless the method is `actual`. */
  readonly actualTokens: bigint;
  /** Actual tokens beyond the reserve; 0 when within. */
  readonly overshootTokens: bigint;
  /** The charge was capped at the reserve (quota.md §7.4). */
  readonly overshootCapped: boolean;
}

export const noCharge: Charge = {
  committedCreditsMicro: 0n,
  chargedTokens: 0n,
  actualTokens: 0n,
  overshootTokens: 0n,
  overshootCapped: false,
};

/** A usage object that can be billed: whole numbers in bounds, at least one above zero (quota.md §1.3, §7.1). */
export const isKnownUsage = (usage: { inputTokens: number; outputTokens: number } | null): boolean => {
  if (usage === null) return false;
  const { inputTokens, outputTokens } = usage;
  return isValidUsage(usage) && (inputTokens > 0 || outputTokens > 0);
};

/** False for counts that are negative, fractional or absurd: unknown usage, counted as an overflow. */
export const isValidUsage = (usage: { inputTokens: number; outputTokens: number }): boolean =>
  [usage.inputTokens, usage.outputTokens].every(
    (tokens) => Number.isInteger(tokens) && tokens >= 0 && BigInt(tokens) <= maxTokens,
  );

/** The amounts of a settlement (quota.md §7.2, §7.4). Pure: a re-run gives the same. */
export const chargeOf = (
  method: SettlementMethod,
  terms: ReserveTerms,
  usage: { readonly inputTokens: number; readonly outputTokens: number } | null,
  overshootToleranceBp: bigint,
): Charge => {
  if (method === "released") return noCharge;
  if (method === "estimated" || usage === null) return estimatedCharge(terms);
  const input = BigInt(usage.inputTokens);
  const output = BigInt(usage.outputTokens);
  const actualTokens = input + output;
  const overshootTokens = actualTokens > terms.reserveTokens ? actualTokens - terms.reserveTokens : 0n;
  const overshootCapped =
    overshootTokens > 0n && actualTokens * 10_000n > terms.reserveTokens * overshootToleranceBp;
  return {
    committedCreditsMicro: overshootCapped
      ? terms.reservedCreditsMicro
      : creditsMicro(input, output, terms.inputMultiplierMicro, terms.outputMultiplierMicro),
    chargedTokens: overshootCapped ? terms.reserveTokens : actualTokens,
    actualTokens,
    overshootTokens,
    overshootCapped,
  };
};

/** Input as estimated, output as the floor: what a turn of unknown usage costs. */
const estimatedCharge = (terms: ReserveTerms): Charge => {
  const reservedInput = terms.reserveTokens - BigInt(terms.maxOutputTokensApplied);
  const input = reservedInput > 0n ? reservedInput : 0n;
  const floor = BigInt(terms.minimalGenerationFloorApplied);
  const tokens = input + floor;
  return {
    ...noCharge,
    committedCreditsMicro: creditsMicro(
      input,
      floor,
      terms.inputMultiplierMicro,
      terms.outputMultiplierMicro,
    ),
    chargedTokens: tokens < terms.reserveTokens ? tokens : terms.reserveTokens,
  };
};
