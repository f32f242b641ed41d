import { unreachable } from "../lib/assert.ts";
import type { ProviderUsage } from "../providers/contract.ts";
import { type Charge, chargeOf, isKnownUsage, noCharge, type SettlementMethod } from "../quota/settle.ts";
import type { ReserveColumns, TerminalState, TurnErrorCode } from "./turn.ts";

export type BillingOutcome = "completed" | "failed" | "aborted";

/** How a turn is billed, and what it costs. */
export interface Bill extends Charge {
  readonly outcome: BillingOutcome;
  readonly method: SettlementMethod;
  /** Row 10: a code outside the closed set; told as `critical` after the commit. */
  readonly unknownErrorCode: boolean;
}

interface Billed {
  readonly state: TerminalState;
  readonly errorCode: string | null;
  readonly usage: ProviderUsage | null;
  readonly started: boolean;
  /** Null for a row without preflight columns. */
  readonly reserve: ReserveColumns | null;
  /** `quota.overshoot_tolerance_factor` in basis points. */
  readonly overshootToleranceBp: bigint;
}

const releasedCodes: readonly string[] = [
  "context_length_exceeded",
  "validation_error",
] satisfies readonly TurnErrorCode[];

const postProviderCodes: readonly string[] = [
  "provider_error",
  "provider_timeout",
  "rate_limited",
  "web_search_calls_exceeded",
  "code_interpreter_calls_exceeded",
  "message_persistence_failed",
  "internal_error",
] satisfies readonly TurnErrorCode[];

type Verdict = Pick<Bill, "outcome" | "method"> & { readonly unknownErrorCode?: true };

/** The table of turns.md §11.2, rows tried top-down; throws for a turn that still runs. Pure. */
export const billingOutcome = (turn: Omit<Billed, "reserve" | "overshootToleranceBp">): Verdict => {
  const known = isKnownUsage(turn.usage);
  const actualIfKnown = known ? "actual" : "estimated";
  if (turn.state === "completed") return { outcome: "completed", method: actualIfKnown };
  if (turn.state !== "failed" && turn.state !== "cancelled") return unreachable(turn.state);
  if (turn.state === "failed" && turn.errorCode === "orphan_timeout") {
    return { outcome: "aborted", method: "estimated" };
  }
  const outcome = turn.state === "failed" ? "failed" : "aborted";
  if (!turn.started) return { outcome, method: "released" };
  if (turn.state === "failed" && releasedCodes.includes(turn.errorCode ?? "")) {
    return { outcome, method: "released" };
  }
  if (turn.state === "cancelled") return { outcome, method: actualIfKnown };
  if (postProviderCodes.includes(turn.errorCode ?? "")) return { outcome, method: actualIfKnown };
  return { outcome, method: "estimated", unknownErrorCode: true };
};

/**
 * Bills a turn from its row and the provider's usage alone, so that a re-run gives the same. A row that
 * took no reserve is `failed`/`released` at no charge (turns.md §12).
 */
export const billTurn = (turn: Billed): Bill => {
  if (turn.reserve === null) {
    return { ...noCharge, outcome: "failed", method: "released", unknownErrorCode: false };
  }
  const { outcome, method, unknownErrorCode = false } = billingOutcome(turn);
  const charge = chargeOf(method, turn.reserve, turn.usage, turn.overshootToleranceBp);
  return { ...charge, outcome, method, unknownErrorCode };
};
