/**
 * Credit arithmetic (quota.md §1). Amounts are micro-credits, multipliers micro-credits per million
 * tokens, all `bigint`: no floating point touches money.
 */

export const creditDivisor = 1_000_000n;
export const maxTokens = 10_000_000n;
export const maxMultiplier = 10_000_000_000n;
const maxAmount = 2n ** 63n - 1n;

/** An input outside the bounds; `part` says which check failed. */
export class CreditOverflowError extends Error {
  override name = "CreditOverflowError";
  readonly part: "tokens" | "multiplier" | "arithmetic";
  /** Token counts and multipliers, for the log. */
  readonly inputs: Readonly<Record<string, string>>;

  constructor(part: "tokens" | "multiplier" | "arithmetic", inputs: Readonly<Record<string, bigint>> = {}) {
    super(`credit arithmetic out of bounds: ${part}`);
    this.part = part;
    this.inputs = Object.fromEntries(Object.entries(inputs).map(([name, value]) => [name, String(value)]));
  }
}

/** `a / b` rounded up, for `a ≥ 0` and `b > 0`. */
export const ceilDiv = (a: bigint, b: bigint): bigint => (a === 0n ? 0n : (a + b - 1n) / b);

/** What a pair of token counts costs; rounded up per component, then added. Throws `CreditOverflowError`. */
export const creditsMicro = (
  inputTokens: bigint,
  outputTokens: bigint,
  inputMultiplierMicro: bigint,
  outputMultiplierMicro: bigint,
): bigint => {
  const inputs = {
    input_tokens: inputTokens,
    output_tokens: outputTokens,
    input_multiplier_micro: inputMultiplierMicro,
    output_multiplier_micro: outputMultiplierMicro,
  };
  for (const tokens of [inputTokens, outputTokens]) {
    if (tokens < 0n || tokens > maxTokens) throw new CreditOverflowError("tokens", inputs);
  }
  for (const multiplier of [inputMultiplierMicro, outputMultiplierMicro]) {
    if (multiplier < 1n || multiplier > maxMultiplier) throw new CreditOverflowError("multiplier", inputs);
  }
  const amount =
    ceilDiv(inputTokens * inputMultiplierMicro, creditDivisor) +
    ceilDiv(outputTokens * outputMultiplierMicro, creditDivisor);
  if (amount > maxAmount) throw new CreditOverflowError("arithmetic", inputs);
  return amount;
};
