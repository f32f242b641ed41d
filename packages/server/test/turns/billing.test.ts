import fc from "fast-check";
import { describe, expect, test } from "vitest";
import type { ProviderUsage } from "../../src/providers/contract.ts";
import type { SettlementMethod } from "../../src/quota/settle.ts";
import { type BillingOutcome, billingOutcome, billTurn } from "../../src/turns/billing.ts";
import { type ReserveColumns, type TerminalState, turnErrorCodes } from "../../src/turns/turn.ts";

const usageOf = (inputTokens: number, outputTokens: number): ProviderUsage => ({
  inputTokens,
  outputTokens,
  cacheReadInputTokens: 0,
  cacheWriteInputTokens: 0,
  reasoningTokens: 0,
});

const known = [usageOf(900, 300), usageOf(0, 1), usageOf(1, 0)];
const unknown = [null, usageOf(0, 0), usageOf(-1, 5), usageOf(1.5, 5), usageOf(10_000_001, 5)];
const either = [...known, ...unknown];
const postProvider = [
  "provider_error",
  "provider_timeout",
  "rate_limited",
  "web_search_calls_exceeded",
  "code_interpreter_calls_exceeded",
  "message_persistence_failed",
  "internal_error",
];
const released = ["context_length_exceeded", "validation_error"];
const anyCode = [...postProvider, ...released, "made_up", null];
const started = [true];

interface Row {
  readonly row: string;
  readonly state: TerminalState;
  readonly codes: readonly (string | null)[];
  readonly usages: readonly (ProviderUsage | null)[];
  readonly started: readonly boolean[];
  readonly outcome: BillingOutcome;
  readonly method: SettlementMethod;
  readonly unknownErrorCode?: true;
}

const table: Row[] = [
  {
    row: "1",
    state: "completed",
    codes: [null],
    usages: known,
    started: [true, false],
    outcome: "completed",
    method: "actual",
  },
  {
    row: "2",
    state: "completed",
    codes: [null],
    usages: unknown,
    started: [true, false],
    outcome: "completed",
    method: "estimated",
  },
  {
    row: "3",
    state: "failed",
    codes: ["orphan_timeout"],
    usages: either,
    started: [true, false],
    outcome: "aborted",
    method: "estimated",
  },
  {
    row: "4 failed",
    state: "failed",
    codes: anyCode,
    usages: either,
    started: [false],
    outcome: "failed",
    method: "released",
  },
  {
    row: "4 cancelled",
    state: "cancelled",
    codes: [null],
    usages: either,
    started: [false],
    outcome: "aborted",
    method: "released",
  },
  {
    row: "5",
    state: "failed",
    codes: released,
    usages: either,
    started,
    outcome: "failed",
    method: "released",
  },
  {
    row: "6",
    state: "cancelled",
    codes: [null],
    usages: known,
    started,
    outcome: "aborted",
    method: "actual",
  },
  {
    row: "7",
    state: "cancelled",
    codes: [null],
    usages: unknown,
    started,
    outcome: "aborted",
    method: "estimated",
  },
  {
    row: "8",
    state: "failed",
    codes: postProvider,
    usages: known,
    started,
    outcome: "failed",
    method: "actual",
  },
  {
    row: "9",
    state: "failed",
    codes: postProvider,
    usages: unknown,
    started,
    outcome: "failed",
    method: "estimated",
  },
  {
    row: "10",
    state: "failed",
    codes: ["made_up", "", null],
    usages: either,
    started,
    outcome: "failed",
    method: "estimated",
    unknownErrorCode: true,
  },
];

describe("billing outcome (turns.md §11.2)", () => {
  test.each(table)("row $row: $state → $outcome, $method", (row) => {
    const { state, outcome, method, unknownErrorCode } = row;
    for (const errorCode of row.codes) {
      for (const usage of row.usages) {
        for (const isStarted of row.started) {
          const turn = { state, errorCode, usage, started: isStarted };
          expect(billingOutcome(turn), JSON.stringify(turn)).toEqual({
            outcome,
            method,
            ...(unknownErrorCode === undefined ? {} : { unknownErrorCode }),
          });
        }
      }
    }
  });

  test("every stored error code has a row of its own", () => {
    for (const errorCode of turnErrorCodes) {
      const verdict = billingOutcome({ state: "failed", errorCode, usage: null, started: true });
      expect(verdict.unknownErrorCode, errorCode).toBeUndefined();
    }
  });

  test("a running turn is a programming error", () => {
    const turn = { state: "running" as TerminalState, errorCode: null, usage: null, started: true };
    expect(() => billingOutcome(turn)).toThrow("unreachable");
  });
});

const reserve: ReserveColumns = {
  reserveTokens: 9_402n,
  reservedCreditsMicro: 126_510n,
  policyVersionApplied: 1n,
  maxOutputTokensApplied: 8_192,
  minimalGenerationFloorApplied: 50,
  effectiveModel: "m",
  effectiveTier: "premium",
  inputMultiplierMicro: 3_000_000n,
  outputMultiplierMicro: 15_000_000n,
};

const terminalTurns = fc.record({
  state: fc.constantFrom<TerminalState>("completed", "failed", "cancelled"),
  errorCode: fc.constantFrom(...turnErrorCodes, "made_up", null),
  usage: fc.constantFrom(...either),
  started: fc.boolean(),
});

describe("the bill of a turn", () => {
  test("once started, no cancelled turn is free", () => {
    fc.assert(
      fc.property(terminalTurns, (turn) => {
        const bill = billTurn({ ...turn, reserve, overshootToleranceBp: 11_000n });
        if (turn.state === "cancelled" && turn.started) {
          expect(bill.method).not.toBe("released");
          expect(bill.committedCreditsMicro).toBeGreaterThan(0n);
        }
        expect(bill.method === "released").toBe(bill.chargedTokens === 0n);
      }),
    );
  });

  test("a re-run gives the same bill", () => {
    fc.assert(
      fc.property(terminalTurns, (turn) => {
        const run = () => billTurn({ ...turn, reserve, overshootToleranceBp: 11_000n });
        expect(run()).toEqual(run());
      }),
    );
  });

  test("a turn that took no reserve is failed and released, whatever its end (turns.md §12)", () => {
    fc.assert(
      fc.property(terminalTurns, (turn) => {
        expect(billTurn({ ...turn, reserve: null, overshootToleranceBp: 11_000n })).toMatchObject({
          outcome: "failed",
          method: "released",
          committedCreditsMicro: 0n,
          chargedTokens: 0n,
        });
      }),
    );
  });

  test("usage in bounds that overshoots by far is capped, and stays completed", () => {
    const usage = usageOf(9_000, 2_000);
    const bill = billTurn({
      state: "completed",
      errorCode: null,
      usage,
      started: true,
      reserve,
      overshootToleranceBp: 11_000n,
    });
    expect(bill).toMatchObject({
      outcome: "completed",
      method: "actual",
      overshootCapped: true,
      committedCreditsMicro: 126_510n,
      chargedTokens: 9_402n,
      actualTokens: 11_000n,
    });
  });
});
