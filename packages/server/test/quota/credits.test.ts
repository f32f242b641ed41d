import fc from "fast-check";
import { expect, test } from "vitest";
import {
  CreditOverflowError,
  ceilDiv,
  creditsMicro,
  maxMultiplier,
  maxTokens,
} from "../../src/quota/credits.ts";

test.each([
  [0n, 0n, 1_000_000n, 3_000_000n, 0n],
  [1n, 1n, 1n, 1n, 2n],
  [1n, 1n, 500_000n, 500_000n, 2n],
  [1_000n, 500n, 1_000_000n, 3_000_000n, 2_500n],
  [900n, 300n, 3_000_000n, 15_000_000n, 7_200n],
  [7n, 3n, 333_333n, 666_667n, 6n],
  [333n, 0n, 333_333n, 1n, 111n],
  [1n, 1n, 1_500_001n, 999_999n, 3n],
  [1_000_000n, 0n, 1n, 1n, 1n],
  [1_000_001n, 0n, 1n, 1n, 2n],
  [10_000_000n, 10_000_000n, 10_000_000_000n, 10_000_000_000n, 200_000_000_000n],
])("quota.md §15.1: %i in, %i out at %i / %i cost %i", (input, output, inMult, outMult, credits) => {
  expect(creditsMicro(input, output, inMult, outMult)).toBe(credits);
});

test.each([
  [10_000_001n, 0n, 1n, 1n, "tokens"],
  [0n, 10_000_001n, 1n, 1n, "tokens"],
  [-1n, 0n, 1n, 1n, "tokens"],
  [1n, 0n, 10_000_000_001n, 1n, "multiplier"],
  [1n, 0n, 1n, 10_000_000_001n, "multiplier"],
  [1n, 0n, 0n, 1n, "multiplier"],
  [1n, 0n, 1n, 0n, "multiplier"],
])(
  "quota.md §15.1: %i in, %i out at %i / %i is an overflow of %s",
  (input, output, inMult, outMult, part) => {
    expect(() => creditsMicro(input, output, inMult, outMult)).toThrow(
      expect.objectContaining({ name: "CreditOverflowError", part }),
    );
    expect(() => creditsMicro(input, output, inMult, outMult)).toThrow(CreditOverflowError);
  },
);

const tokens = fc.bigInt(0n, maxTokens);
const multiplier = fc.bigInt(1n, maxMultiplier);

test("each component is rounded up by less than one micro-credit, whatever the counts", () => {
  fc.assert(
    fc.property(tokens, tokens, multiplier, multiplier, (input, output, inMult, outMult) => {
      const exact = input * inMult + output * outMult;
      const charged = creditsMicro(input, output, inMult, outMult) * 1_000_000n;
      expect(charged >= exact && charged < exact + 2_000_000n).toBe(true);
      expect(creditsMicro(input, 0n, inMult, outMult) + creditsMicro(0n, output, inMult, outMult)).toBe(
        creditsMicro(input, output, inMult, outMult),
      );
    }),
  );
});

test("a division rounds up, and nothing stays nothing", () => {
  expect([ceilDiv(0n, 7n), ceilDiv(1n, 7n), ceilDiv(7n, 7n), ceilDiv(8n, 7n)]).toEqual([0n, 1n, 1n, 2n]);
});
