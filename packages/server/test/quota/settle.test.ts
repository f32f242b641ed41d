import fc from "fast-check";
import { expect, test } from "vitest";
import { creditsMicro, maxMultiplier } from "../../src/quota/credits.ts";
import { chargeOf, isKnownUsage, isValidUsage, type ReserveTerms } from "../../src/quota/settle.ts";

const tolerance = 11_000n;

/** The reserve of a turn, computed as preflight computes it. */
const terms = (input: bigint, output: number, inMult: bigint, outMult: bigint, floor = 50): ReserveTerms => ({
  reserveTokens: input + BigInt(output),
  reservedCreditsMicro: creditsMicro(input, BigInt(output), inMult, outMult),
  maxOutputTokensApplied: output,
  minimalGenerationFloorApplied: Math.min(floor, output),
  inputMultiplierMicro: inMult,
  outputMultiplierMicro: outMult,
});

const ordinary = terms(1_210n, 8_192, 3_000_000n, 15_000_000n);
const webSearch = terms(6_628n, 8_192, 3_000_000n, 15_000_000n);

test("quota.md §15.4: the reserves", () => {
  expect([ordinary.reserveTokens, ordinary.reservedCreditsMicro]).toEqual([9_402n, 126_510n]);
  expect([webSearch.reserveTokens, webSearch.reservedCreditsMicro]).toEqual([14_820n, 142_764n]);
});

test.each([
  ["completed 900 / 300", ordinary, "actual", { inputTokens: 900, outputTokens: 300 }, 1_200n, 7_200n],
  ["disconnect, no usage", ordinary, "estimated", null, 1_260n, 4_380n],
  ["failure before the request", ordinary, "released", null, 0n, 0n],
  [
    "orphan, usage comes late",
    ordinary,
    "estimated",
    { inputTokens: 900, outputTokens: 300 },
    1_260n,
    4_380n,
  ],
  ["web search offered, no usage", webSearch, "estimated", null, 6_678n, 20_634n],
] as const)("quota.md §15.4: %s", (_name, reserve, method, usage, chargedTokens, committedCreditsMicro) => {
  expect(chargeOf(method, reserve, usage, tolerance)).toMatchObject({
    chargedTokens,
    committedCreditsMicro,
    overshootCapped: false,
    overshootTokens: 0n,
  });
});

test.each([
  [9_500, 500, false, 11_000n, 10_000n, 0n],
  [10_500, 500, false, 12_000n, 11_000n, 1_000n],
  [10_500, 501, true, 18_192n, 10_000n, 1_001n],
  [11_000, 500, true, 18_192n, 10_000n, 1_500n],
])(
  "quota.md §15.7: %i / %i of 10 000 reserved tokens, capped %s",
  (inputTokens, outputTokens, ...expected) => {
    const reserve = terms(5_904n, 4_096, 1_000_000n, 3_000_000n);
    expect([reserve.reserveTokens, reserve.reservedCreditsMicro]).toEqual([10_000n, 18_192n]);
    const [overshootCapped, committedCreditsMicro, chargedTokens, overshootTokens] = expected;
    expect(chargeOf("actual", reserve, { inputTokens, outputTokens }, tolerance)).toEqual({
      overshootCapped,
      committedCreditsMicro,
      chargedTokens,
      overshootTokens,
      actualTokens: BigInt(inputTokens + outputTokens),
    });
  },
);

test("quota.md §15.8: the floor is clamped to the output cap", () => {
  const reserve = terms(165n, 32, 1_000_000n, 3_000_000n);
  expect([reserve.reserveTokens, reserve.reservedCreditsMicro]).toEqual([197n, 261n]);
  expect(chargeOf("estimated", reserve, null, tolerance)).toMatchObject({
    chargedTokens: 197n,
    committedCreditsMicro: 261n,
  });
});

const multiplier = fc.bigInt(1n, maxMultiplier);
const reserves = fc
  .tuple(fc.bigInt(0n, 200_000n), fc.nat(50_000), multiplier, multiplier, fc.integer({ min: 1, max: 500 }))
  .map((values) => terms(...values));
const usages = fc.record({ inputTokens: fc.nat(400_000), outputTokens: fc.nat(100_000) });

test("quota.md §16.4: an estimated, released or capped charge never exceeds the reserve", () => {
  fc.assert(
    fc.property(reserves, usages, (reserve, usage) => {
      const actual = chargeOf("actual", reserve, usage, tolerance);
      const charges = [
        chargeOf("estimated", reserve, usage, tolerance),
        chargeOf("released", reserve, usage, tolerance),
        ...(actual.overshootCapped ? [actual] : []),
      ];
      for (const charge of charges) {
        expect(charge.committedCreditsMicro <= reserve.reservedCreditsMicro).toBe(true);
        expect(charge.chargedTokens <= reserve.reserveTokens).toBe(true);
      }
    }),
  );
});

test("an actual charge is capped exactly when its tokens pass the tolerance", () => {
  fc.assert(
    fc.property(reserves, usages, fc.bigInt(10_000n, 15_000n), (reserve, usage, toleranceBp) => {
      const charge = chargeOf("actual", reserve, usage, toleranceBp);
      const tokens = BigInt(usage.inputTokens + usage.outputTokens);
      expect(charge.overshootCapped).toBe(tokens * 10_000n > reserve.reserveTokens * toleranceBp);
      expect(charge.actualTokens).toBe(tokens);
    }),
  );
});

test.each([
  [null, false],
  [{ inputTokens: 0, outputTokens: 0 }, false],
  [{ inputTokens: 1, outputTokens: 0 }, true],
  [{ inputTokens: 0, outputTokens: 1 }, true],
  [{ inputTokens: -1, outputTokens: 5 }, false],
  [{ inputTokens: 1.5, outputTokens: 5 }, false],
  [{ inputTokens: Number.NaN, outputTokens: 5 }, false],
  [{ inputTokens: 10_000_000, outputTokens: 10_000_000 }, true],
  [{ inputTokens: 10_000_001, outputTokens: 5 }, false],
])("quota.md §1.3, §7.1: usage %o is known: %s", (usage, known) => {
  expect(isKnownUsage(usage)).toBe(known);
});

test("all zeros is a valid count, though nothing is known by it", () => {
  expect(isValidUsage({ inputTokens: 0, outputTokens: 0 })).toBe(true);
});
