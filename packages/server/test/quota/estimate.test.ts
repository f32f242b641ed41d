import { expect, test } from "vitest";
import {
  type EstimationBudgets,
  estimateInputTokens,
  type OfferedTools,
  textTokens,
} from "../../src/quota/estimate.ts";
import { defaultBudgets, noTools } from "./support.ts";

const allTools: OfferedTools = { fileSearch: true, webSearch: true, codeInterpreter: true };
const fileSearch: OfferedTools = { ...noTools, fileSearch: true };
const webSearch: OfferedTools = { ...noTools, webSearch: true };
const otherBudgets: EstimationBudgets = {
  ...defaultBudgets,
  bytesPerTokenConservative: 3,
  fixedOverheadTokens: 250,
  safetyMarginPct: 15,
  imageTokenBudget: 2_000,
  toolSurchargeTokens: 800,
};

test.each<[number, number, OfferedTools, bigint, bigint, bigint, EstimationBudgets]>([
  [0, 0, noTools, 0n, 110n, 110n, defaultBudgets],
  [1, 0, noTools, 0n, 112n, 112n, defaultBudgets],
  [4, 0, noTools, 0n, 112n, 112n, defaultBudgets],
  [5, 0, noTools, 0n, 113n, 113n, defaultBudgets],
  [Buffer.byteLength("привет"), 0, noTools, 0n, 114n, 114n, defaultBudgets],
  [4_000, 0, noTools, 0n, 1_210n, 1_210n, defaultBudgets],
  [4_001, 0, noTools, 0n, 1_212n, 1_212n, defaultBudgets],
  [4_000, 0, noTools, 12_000n, 1_210n, 13_210n, defaultBudgets],
  [0, 3, noTools, 0n, 110n, 3_110n, defaultBudgets],
  [4_000, 2, allTools, 9_000n, 1_210n, 14_210n, defaultBudgets],
  [1_000, 1, fileSearch, 0n, 672n, 3_472n, otherBudgets],
  [1_234, 0, webSearch, 5_678n, 450n, 6_628n, defaultBudgets],
  [200, 0, noTools, 0n, 165n, 165n, defaultBudgets],
])(
  "quota.md §15.2: %i bytes, %i images, tools %o, %i prior tokens",
  (utf8Bytes, images, offered, priorContextTokens, text, estimate, budgets) => {
    expect(textTokens(utf8Bytes, budgets)).toBe(text);
    expect(estimateInputTokens({ utf8Bytes, images, offered, priorContextTokens }, budgets)).toBe(estimate);
  },
);
