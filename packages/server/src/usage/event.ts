import { z } from "zod";
import type { SystemTaskType, UsageEvent, UsageTokens } from "../outbox/events.ts";
import { taskDedupeKey, turnDedupeKey } from "../outbox/usage-rules.ts";
import {
  orAbsent,
  orNull,
  readPayload,
  wireInt,
  wireMillis,
  wireTimestamp,
  wireUint,
  wireUuid,
} from "../outbox/wire.ts";

export type { UsageEvent } from "../outbox/events.ts";

/** Tokens as the provider reported them. */
export interface ReportedTokens {
  readonly inputTokens: number;
  readonly outputTokens: number;
  readonly cacheReadInputTokens: number;
  readonly cacheWriteInputTokens: number;
  readonly reasoningTokens: number;
}

/** What a settled turn tells billing; credits in micro-credits. */
export interface TurnUsage {
  readonly tenantId: string;
  readonly userId: string | null;
  readonly chatId: string;
  readonly turnId: string;
  readonly requestId: string;
  /** `""` only if the turn never reached preflight. */
  readonly effectiveModel: string;
  readonly selectedModel: string;
  readonly terminalState: UsageEvent["terminal_state"];
  readonly billingOutcome: UsageEvent["billing_outcome"];
  readonly settlementMethod: UsageEvent["settlement_method"];
  readonly usage: ReportedTokens | null;
  readonly actualCreditsMicro: bigint;
  readonly reservedCreditsMicro: bigint;
  readonly overshootCapped: boolean;
  readonly policyVersionApplied: bigint;
  readonly webSearchCalls: number;
  readonly codeInterpreterCalls: number;
  readonly fileSearchCalls: number;
  /** Finalization time by the database; cut to milliseconds. */
  readonly timestamp: string;
  readonly requesterType: UsageEvent["requester_type"];
  readonly errorCode: string | null;
  readonly incomplete: "max_tokens" | "content_filter" | "other" | null;
}

/** What a system task consumed (quota.md §9): real tokens, no credits. */
export interface SystemTaskUsage {
  readonly tenantId: string;
  readonly chatId: string;
  /** Stable over retries; also the request id of the event. */
  readonly systemRequestId: string;
  readonly systemTaskType: SystemTaskType;
  readonly model: string;
  readonly selectedModel: string;
  readonly usage: ReportedTokens | null;
  readonly timestamp: string;
}

/**
 * The usage event of a turn (outbox.md §4.1), always with its dedupe key. Pure. Throws RangeError for
 * an amount that is not a safe integer.
 */
export const turnUsageEvent = (turn: TurnUsage): UsageEvent => ({
  tenant_id: turn.tenantId,
  ...(turn.userId === null ? {} : { user_id: turn.userId }),
  chat_id: turn.chatId,
  turn_id: turn.turnId,
  request_id: turn.requestId,
  effective_model: turn.effectiveModel,
  selected_model: turn.selectedModel,
  terminal_state: turn.terminalState,
  billing_outcome: turn.billingOutcome,
  usage: wireTokens(turn.usage),
  actual_credits_micro: wireInt(turn.actualCreditsMicro),
  settlement_method: turn.settlementMethod,
  policy_version_applied: wireInt(turn.policyVersionApplied),
  web_search_calls: turn.webSearchCalls,
  code_interpreter_calls: turn.codeInterpreterCalls,
  timestamp: wireMillis(turn.timestamp),
  requester_type: turn.requesterType,
  dedupe_key: turnDedupeKey(turn.tenantId, turn.turnId, turn.requestId),
  overshoot_capped: turn.overshootCapped,
  reserved_credits_micro: wireInt(turn.reservedCreditsMicro),
  file_search_calls: turn.fileSearchCalls,
  error_code: turn.errorCode,
  completion_signal: turn.incomplete === null ? null : { kind: "incomplete", reason: turn.incomplete },
});

/** The usage event of a system task (quota.md §9): no user, no turn, no credits. Pure. */
export const systemUsageEvent = (task: SystemTaskUsage): UsageEvent => ({
  tenant_id: task.tenantId,
  chat_id: task.chatId,
  request_id: task.systemRequestId,
  effective_model: task.model,
  selected_model: task.selectedModel,
  terminal_state: "completed",
  billing_outcome: "system_task",
  usage: wireTokens(task.usage),
  actual_credits_micro: 0,
  settlement_method: "none",
  policy_version_applied: 0,
  web_search_calls: 0,
  code_interpreter_calls: 0,
  timestamp: wireMillis(task.timestamp),
  requester_type: "system",
  dedupe_key: taskDedupeKey(task.tenantId, task.systemTaskType, task.systemRequestId),
  system_task_type: task.systemTaskType,
  overshoot_capped: false,
  reserved_credits_micro: 0,
  file_search_calls: 0,
  error_code: null,
  completion_signal: null,
});

const wireTokens = (tokens: ReportedTokens | null): UsageTokens | null =>
  tokens === null
    ? null
    : {
        input_tokens: tokens.inputTokens,
        output_tokens: tokens.outputTokens,
        cache_read_input_tokens: tokens.cacheReadInputTokens,
        cache_write_input_tokens: tokens.cacheWriteInputTokens,
        reasoning_tokens: tokens.reasoningTokens,
      };

const tokens = z.object({
  input_tokens: wireUint,
  output_tokens: wireUint,
  cache_read_input_tokens: wireUint,
  cache_write_input_tokens: wireUint,
  reasoning_tokens: wireUint,
});

const uint32 = wireUint.max(0xffff_ffff);

const schema = z.object({
  tenant_id: wireUuid,
  user_id: orAbsent(wireUuid),
  chat_id: wireUuid,
  turn_id: orAbsent(wireUuid),
  request_id: wireUuid,
  effective_model: z.string(),
  selected_model: z.string(),
  terminal_state: z.enum(["completed", "failed", "cancelled"]),
  billing_outcome: z.enum(["completed", "failed", "aborted", "system_task"]),
  usage: orNull(tokens),
  actual_credits_micro: z.int(),
  settlement_method: z.enum(["actual", "estimated", "released", "none"]),
  policy_version_applied: z.int(),
  web_search_calls: uint32,
  code_interpreter_calls: uint32,
  timestamp: wireTimestamp,
  requester_type: z.enum(["user", "system"]).default("user"),
  dedupe_key: orAbsent(z.string().min(1)),
  system_task_type: orAbsent(z.enum(["thread_summary_update", "doc_summary_generation"])),
  overshoot_capped: z.boolean().default(false),
  reserved_credits_micro: z.int().default(0),
  file_search_calls: uint32.default(0),
  error_code: orNull(z.string()),
  completion_signal: orNull(
    z.object({
      kind: z.literal("incomplete"),
      reason: z.enum(["max_tokens", "content_filter", "other"]),
    }),
  ),
});

/**
 * Reads a usage payload: unknown keys ignored, absent keys take their empty value. Throws as
 * `readPayload`.
 */
export const readUsageEvent = (payload: string): UsageEvent => readPayload(schema, payload);
