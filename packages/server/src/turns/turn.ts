import type { Timestamp } from "../db/pool.ts";
import type { IncompleteReason, ProviderCitation, ProviderUsage } from "../providers/contract.ts";

/** States of a turn (turns.md §2). All but `running` are terminal and immutable. */
export type TurnState = "running" | "completed" | "failed" | "cancelled";
export type TerminalState = Exclude<TurnState, "running">;

/** Names of the states on the wire (turns.md §2). */
export const wireState = {
  running: "running",
  completed: "done",
  failed: "error",
  cancelled: "cancelled",
} as const satisfies Record<TurnState, string>;

/** Codes stored on a failed turn (turns.md §11.1); a closed set. */
export const turnErrorCodes = [
  "provider_error",
  "provider_timeout",
  "rate_limited",
  "web_search_calls_exceeded",
  "code_interpreter_calls_exceeded",
  "context_length_exceeded",
  "validation_error",
  "internal_error",
  "message_persistence_failed",
  "orphan_timeout",
] as const;
export type TurnErrorCode = (typeof turnErrorCodes)[number];

/** Why a running turn was asked to stop. */
export type CancelReason = "disconnect" | "user_stop" | "server_shutdown" | "chat_deleted" | "timeout";

/** Label values of the cancellation metrics (ops.md §5). */
export const abortTrigger = {
  disconnect: "disconnect",
  user_stop: "user_stop",
  server_shutdown: "shutdown",
  chat_deleted: "chat_deleted",
  timeout: "timeout",
} as const satisfies Record<CancelReason, string>;

export type DowngradeReason =
  | "premium_quota_exhausted"
  | "force_standard_tier"
  | "disable_premium_tier"
  | "model_disabled";

/** Finished tool calls of a turn. */
export interface ToolCounts {
  readonly webSearch: number;
  readonly codeInterpreter: number;
  readonly fileSearch: number;
}

/** How the stream of a turn ended: what finalization works from (turns.md §10). */
export interface Terminal {
  readonly state: TerminalState;
  readonly errorCode: TurnErrorCode | null;
  /** Internal, secrets removed; for `chat_turns.error_detail`. */
  readonly errorDetail: string | null;
  /** Sanitised, for the client's `error` event. */
  readonly message: string;
  readonly cancelReason: CancelReason | null;
  /** Visible text received, before any abort. */
  readonly content: string;
  readonly usage: ProviderUsage | null;
  readonly responseId: string | null;
  readonly citations: readonly ProviderCitation[];
  readonly incomplete: IncompleteReason | null;
  /** False only while the failure provably precedes the provider request (turns.md §11.2). */
  readonly started: boolean;
  readonly toolCounts: ToolCounts;
  readonly latency: { readonly ttftMs?: number; readonly totalMs?: number };
}

/** The preflight columns of a turn: immutable once set, the only inputs of settlement. */
export interface ReserveColumns {
  readonly reserveTokens: bigint;
  readonly reservedCreditsMicro: bigint;
  readonly policyVersionApplied: bigint;
  readonly maxOutputTokensApplied: number;
  readonly minimalGenerationFloorApplied: number;
  readonly effectiveModel: string;
  readonly effectiveTier: "standard" | "premium";
  readonly inputMultiplierMicro: bigint;
  readonly outputMultiplierMicro: bigint;
}

/** Turn Status as clients see it (turns.md §14). */
export interface TurnStatusView {
  readonly request_id: string;
  readonly state: (typeof wireState)[TurnState];
  readonly error_code?: string;
  readonly assistant_message_id?: string;
  readonly updated_at: Timestamp;
}

/** The view of a stored turn: `error_code` only with `error`, the message id with `done` or kept text. */
export const turnStatusView = (row: {
  requestId: string;
  state: TurnState;
  errorCode: string | null;
  assistantMessageId: string | null;
  updatedAt: Timestamp;
}): TurnStatusView => ({
  request_id: row.requestId,
  state: wireState[row.state],
  ...(row.state === "failed" && row.errorCode !== null ? { error_code: row.errorCode } : {}),
  ...(row.assistantMessageId !== null && (row.state === "completed" || row.state === "cancelled")
    ? { assistant_message_id: row.assistantMessageId }
    : {}),
  updated_at: row.updatedAt,
});
