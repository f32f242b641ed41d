import { describe, expect, test } from "vitest";
import type { KillSwitches, UserLimits } from "../../src/policy/snapshot.ts";
import {
  type Balances,
  candidateModel,
  type Decision,
  type DowngradeReason,
  runCascade,
  tierAvailable,
  zeroBalance,
} from "../../src/quota/cascade.ts";
import { ample, ampleLimits, model, noTools, snapshotOf } from "./support.ts";

type Selected = "premium" | "standard" | "unknown";
/** `exhausted`: its buckets do not take the reserve. `absent`: no enabled model of the tier. */
type Candidate = "yes" | "exhausted" | "absent";

interface Situation {
  readonly selected: Selected;
  readonly enabled: boolean;
  readonly switches: Partial<KillSwitches>;
  readonly p: Candidate;
  readonly s: Candidate;
}

const nothingUsed: Balances = {
  total: { daily: zeroBalance, monthly: zeroBalance },
  premium: { daily: zeroBalance, monthly: zeroBalance },
};

// The premium model is the cheaper one here, so that either tier can be exhausted without the other.
const cheap = { inputMultiplierMicro: 1_000_000n, outputMultiplierMicro: 1_000_000n };
const dear = { inputMultiplierMicro: 9_000_000n, outputMultiplierMicro: 9_000_000n };
const cheapReserve = 5_096n;
const dearReserve = 45_864n;

const decide = ({ selected, enabled, switches, p, s }: Situation): Decision => {
  const isSelected = (tier: Selected): boolean => selected === tier;
  const models = [
    model({ id: "premium", tier: "premium", enabled: isSelected("premium") ? enabled : false, ...cheap }),
    model({ id: "other premium", tier: "premium", enabled: p !== "absent", ...cheap }),
    model({ id: "standard", tier: "standard", enabled: isSelected("standard") ? enabled : false, ...dear }),
    model({ id: "other standard", tier: "standard", enabled: s !== "absent", ...dear }),
  ];
  const total = s !== "exhausted" ? dearReserve : p === "exhausted" ? cheapReserve - 1n : cheapReserve;
  const premium = p === "exhausted" ? cheapReserve - 1n : cheapReserve;
  const limits: UserLimits = {
    standard: { daily: total, monthly: ample },
    premium: { daily: ample, monthly: premium },
  };
  return runCascade({
    snapshot: snapshotOf(models, switches),
    selectedModel: selected,
    limits,
    balances: nothingUsed,
    measure: () => ({ offered: noTools, estimatedInputTokens: 1_000n }),
    maxOutputTokens: 32_768,
  });
};

const force: Partial<KillSwitches>[] = [
  { forceStandardTier: true },
  { forceStandardTier: true, disablePremiumTier: true },
];
const disable: Partial<KillSwitches>[] = [{ disablePremiumTier: true }];
const off: Partial<KillSwitches>[] = [{}];
const anySwitch = [...force, ...disable];
const all = [...off, ...anySwitch];
const any: Candidate[] = ["yes", "exhausted", "absent"];
const no: Candidate[] = ["exhausted", "absent"];
// The selected model itself is a candidate, so its tier is never without one.
const spent: Candidate[] = ["exhausted"];
const yes: Candidate[] = ["yes"];

type Outcome = "reject" | { readonly effective: string; readonly reason?: DowngradeReason };

interface Row {
  readonly row: string;
  readonly selected: Selected;
  readonly enabled: boolean;
  readonly cases: readonly (readonly [Partial<KillSwitches>[], Candidate[], Candidate[]])[];
  readonly outcome: Outcome;
}

const downgraded = (effective: string, reason: DowngradeReason): Outcome => ({ effective, reason });

const rowsOfUnknown = (selected: "premium" | "unknown", name: (row: number) => string): Row[] => [
  {
    row: name(9),
    selected,
    enabled: false,
    cases: [[off, yes, any]],
    outcome: downgraded("other premium", "model_disabled"),
  },
  {
    row: name(10),
    selected,
    enabled: false,
    cases: [[off, no, yes]],
    outcome: downgraded("other standard", "model_disabled"),
  },
  {
    row: name(11),
    selected,
    enabled: false,
    cases: [[anySwitch, any, yes]],
    outcome: downgraded("other standard", "model_disabled"),
  },
  {
    row: name(12),
    selected,
    enabled: false,
    cases: [
      [off, no, no],
      [anySwitch, any, no],
    ],
    outcome: "reject",
  },
];

const matrix: Row[] = [
  {
    row: "1",
    selected: "premium",
    enabled: true,
    cases: [[off, yes, any]],
    outcome: { effective: "premium" },
  },
  {
    row: "2",
    selected: "premium",
    enabled: true,
    cases: [[off, spent, yes]],
    outcome: downgraded("other standard", "premium_quota_exhausted"),
  },
  { row: "3", selected: "premium", enabled: true, cases: [[off, spent, no]], outcome: "reject" },
  {
    row: "4",
    selected: "premium",
    enabled: true,
    cases: [[force, any, yes]],
    outcome: downgraded("other standard", "force_standard_tier"),
  },
  {
    row: "5",
    selected: "premium",
    enabled: true,
    cases: [[disable, any, yes]],
    outcome: downgraded("other standard", "disable_premium_tier"),
  },
  { row: "6", selected: "premium", enabled: true, cases: [[anySwitch, any, no]], outcome: "reject" },
  {
    row: "7",
    selected: "standard",
    enabled: true,
    cases: [[all, any, yes]],
    outcome: { effective: "standard" },
  },
  { row: "8", selected: "standard", enabled: true, cases: [[all, any, spent]], outcome: "reject" },
  ...rowsOfUnknown("premium", String),
  {
    row: "13",
    selected: "standard",
    enabled: false,
    cases: [[all, any, yes]],
    outcome: downgraded("other standard", "model_disabled"),
  },
  { row: "14", selected: "standard", enabled: false, cases: [[all, any, no]], outcome: "reject" },
  ...rowsOfUnknown("unknown", (row) => `15 as ${row}`),
];

const outcomeOf = (decision: Decision): Outcome => {
  if (decision.kind === "reject") return "reject";
  const effective = decision.candidate.model.id;
  return decision.kind === "allow" ? { effective } : { effective, reason: decision.reason };
};

describe("the decision matrix of quota.md §6.4", () => {
  test.each(matrix)(
    "row $row: $selected, enabled $enabled → $outcome",
    ({ selected, enabled, cases, outcome }) => {
      for (const [switchesOf, ps, ss] of cases) {
        for (const switches of switchesOf) {
          for (const p of ps) {
            for (const s of ss) {
              const situation = { selected, enabled, switches, p, s };
              const decision = decide(situation);
              expect(outcomeOf(decision), JSON.stringify(situation)).toEqual(outcome);
              if (decision.kind === "downgrade") expect(decision.from).toBe(selected);
            }
          }
        }
      }
    },
  );
});

describe("the candidate of a tier (quota.md §6.2)", () => {
  const preferred = { preference: { isDefault: true, sortOrder: 1 } };
  const catalog = [
    model({ id: "off", tier: "standard", enabled: false, ...preferred }),
    model({ id: "first", tier: "standard" }),
    model({ id: "default", tier: "standard", ...preferred }),
    model({ id: "second default", tier: "standard", ...preferred }),
    model({ id: "top", tier: "premium" }),
  ];

  test.each([
    ["the selected model, not the default", "first", "standard", catalog, "first"],
    ["the first enabled default when the selected one is disabled", "off", "standard", catalog, "default"],
    ["the first enabled model without a default", "off", "standard", catalog.slice(0, 2), "first"],
    ["the first of a tier other than the selected model's", "first", "premium", catalog, "top"],
    ["none where none is enabled", "off", "standard", catalog.slice(0, 1), undefined],
  ] as const)("%s", (_name, selected, tier, models, expected) => {
    expect(candidateModel(snapshotOf(models), tier, selected)?.id).toBe(expected);
  });

  test("is measured and capped by itself", () => {
    const small = model({ id: "small", tier: "standard", maxOutputTokens: 32 });
    const decision = runCascade({
      snapshot: snapshotOf([small]),
      selectedModel: "small",
      limits: ampleLimits,
      balances: nothingUsed,
      measure: (of) => ({ offered: noTools, estimatedInputTokens: of.id === "small" ? 165n : 0n }),
      maxOutputTokens: 32_768,
    });
    expect(decision).toMatchObject({
      kind: "allow",
      candidate: {
        estimatedInputTokens: 165n,
        maxOutputTokensApplied: 32,
        reserveTokens: 197n,
        reservedCreditsMicro: 261n,
      },
    });
  });
});

describe("availability (quota.md §6.5)", () => {
  const used = { spentCreditsMicro: 60n, reservedCreditsMicro: 30n };
  const balances: Balances = {
    total: { daily: used, monthly: used },
    premium: { daily: used, monthly: used },
  };
  const limitsWith = (
    bucket: "standard" | "premium",
    period: "daily" | "monthly",
    limit: bigint,
  ): UserLimits => ({
    ...ampleLimits,
    [bucket]: { ...ampleLimits[bucket], [period]: limit },
  });

  test.each([
    ["standard", "standard", "daily"],
    ["standard", "standard", "monthly"],
    ["premium", "standard", "daily"],
    ["premium", "standard", "monthly"],
    ["premium", "premium", "daily"],
    ["premium", "premium", "monthly"],
  ] as const)("%s turns fit the %s %s limit exactly, and not by one less", (tier, bucket, period) => {
    expect(tierAvailable(tier, 10n, balances, limitsWith(bucket, period, 100n))).toBe(true);
    expect(tierAvailable(tier, 10n, balances, limitsWith(bucket, period, 99n))).toBe(false);
  });

  test("standard turns do not look at the premium bucket", () => {
    expect(tierAvailable("standard", 10n, balances, limitsWith("premium", "daily", 0n))).toBe(true);
  });
});
