import type {
  AuditAttachment,
  AuditEnvelope,
  DeleteAuditEvent,
  MutationAuditEvent,
  TurnAuditEvent,
} from "../outbox/events.ts";
import { wireInt, wireMillis } from "../outbox/wire.ts";
import { type CountHit, cleanText } from "./redact.ts";

export type { AuditAttachment, AuditEnvelope } from "../outbox/events.ts";

/** The user of a turn that has none (outbox.md §4.4). */
export const nilUuid = "00000000-0000-0000-0000-000000000000";

/** What the audit learns of a turn's end. Free text comes raw; the builder redacts and cuts it. */
export interface TurnAudit {
  readonly tenantId: string;
  readonly userId: string | null;
  readonly chatId: string;
  readonly turnId: string;
  readonly requestId: string;
  readonly requesterType: "user" | "system";
  readonly state: "completed" | "failed" | "cancelled";
  readonly selectedModel: string;
  readonly effectiveModel: string;
  readonly policyVersionApplied: bigint | null;
  /** Null when unknown: written as zeros. */
  readonly usage: {
    readonly inputTokens: number;
    readonly outputTokens: number;
    readonly cacheReadInputTokens: number;
    readonly cacheWriteInputTokens: number;
    readonly reasoningTokens: number;
  } | null;
  /** Milliseconds; empty on the orphan path. */
  readonly latency: { readonly ttftMs?: number | undefined; readonly totalMs?: number | undefined };
  readonly quota: TurnAuditEvent["policy_decisions"]["quota"];
  readonly license?: { readonly feature: string; readonly decision: string } | undefined;
  readonly errorCode: string | null;
  /** Only with `audit.include_content`. */
  readonly prompt?: string | undefined;
  readonly response?: string | undefined;
  readonly attachments?: readonly AuditAttachment[] | undefined;
  readonly fileSearchCalls?: number | undefined;
  readonly webSearchCalls?: number | undefined;
  /** 32 hex digits, captured before the transaction opened. */
  readonly traceId?: string | undefined;
  /** Finalization time by the database; cut to milliseconds. */
  readonly timestamp: string;
}

/** What the audit learns of a retry or an edit. */
export interface MutationAudit {
  readonly eventType: "turn_retry" | "turn_edit";
  readonly tenantId: string;
  readonly requesterType: "user" | "system";
  readonly actorUserId: string;
  readonly chatId: string;
  /** The replaced turn. */
  readonly turnId: string;
  readonly originalRequestId: string;
  readonly newRequestId: string;
  readonly traceId?: string | undefined;
  readonly timestamp: string;
}

/** What the audit learns of a deleted turn. */
export interface DeleteAudit {
  readonly tenantId: string;
  readonly requesterType: "user" | "system";
  readonly actorUserId: string;
  readonly chatId: string;
  readonly turnId: string;
  readonly requestId: string;
  readonly traceId?: string | undefined;
  readonly timestamp: string;
}

/**
 * The audit event of a turn's end (outbox.md §4.4–4.5): text redacted and cut, and the whole shortened
 * until it fits, so that it can never abort the turn. Pure but for `count`, told of every redaction.
 */
export const turnAuditEvent = (turn: TurnAudit, count?: CountHit): TurnAuditEvent => {
  const { prompt, response, attachments = [] } = turn;
  return fitted({
    type: "turn",
    event_type: turn.state === "completed" ? "turn_completed" : "turn_failed",
    timestamp: wireMillis(turn.timestamp),
    tenant_id: turn.tenantId,
    requester_type: turn.requesterType,
    ...(turn.traceId === undefined ? {} : { trace_id: turn.traceId }),
    user_id: turn.userId ?? nilUuid,
    chat_id: turn.chatId,
    turn_id: turn.turnId,
    request_id: turn.requestId,
    selected_model: turn.selectedModel,
    effective_model: turn.effectiveModel,
    ...(turn.policyVersionApplied === null
      ? {}
      : { policy_version_applied: wireInt(turn.policyVersionApplied) }),
    usage: auditUsage(turn),
    latency_ms: {
      ...(turn.latency.ttftMs === undefined ? {} : { ttft_ms: wholeMs(turn.latency.ttftMs) }),
      ...(turn.latency.totalMs === undefined ? {} : { total_ms: wholeMs(turn.latency.totalMs) }),
    },
    policy_decisions: {
      ...(turn.license === undefined ? {} : { license: turn.license }),
      quota: turn.quota,
    },
    ...(turn.errorCode === null ? {} : { error_code: turn.errorCode }),
    ...(prompt === undefined ? {} : { prompt: cleanText(prompt, count) }),
    ...(response === undefined ? {} : { response: cleanText(response, count) }),
    ...(attachments.length === 0
      ? {}
      : { attachments: attachments.map((item) => cleanAttachment(item, count)) }),
    ...toolCalls(turn),
  });
};

/** The audit event of a retry or an edit. Pure. */
export const mutationAuditEvent = (mutation: MutationAudit): MutationAuditEvent => ({
  type: "mutation",
  event_type: mutation.eventType,
  timestamp: wireMillis(mutation.timestamp),
  tenant_id: mutation.tenantId,
  requester_type: mutation.requesterType,
  ...(mutation.traceId === undefined ? {} : { trace_id: mutation.traceId }),
  actor_user_id: mutation.actorUserId,
  chat_id: mutation.chatId,
  turn_id: mutation.turnId,
  original_request_id: mutation.originalRequestId,
  new_request_id: mutation.newRequestId,
});

/** The audit event of a deleted turn. Pure. */
export const deleteAuditEvent = (deletion: DeleteAudit): DeleteAuditEvent => ({
  type: "delete",
  event_type: "turn_delete",
  timestamp: wireMillis(deletion.timestamp),
  tenant_id: deletion.tenantId,
  requester_type: deletion.requesterType,
  ...(deletion.traceId === undefined ? {} : { trace_id: deletion.traceId }),
  actor_user_id: deletion.actorUserId,
  chat_id: deletion.chatId,
  turn_id: deletion.turnId,
  request_id: deletion.requestId,
});

const wholeMs = (ms: number): number => Math.max(0, Math.round(ms));

const auditUsage = ({ usage, effectiveModel }: TurnAudit): TurnAuditEvent["usage"] =>
  usage === null
    ? { input_tokens: 0, output_tokens: 0 }
    : {
        input_tokens: usage.inputTokens,
        output_tokens: usage.outputTokens,
        ...(effectiveModel === "" ? {} : { model: effectiveModel }),
        cache_read_input_tokens: usage.cacheReadInputTokens,
        cache_write_input_tokens: usage.cacheWriteInputTokens,
        reasoning_tokens: usage.reasoningTokens,
      };

const cleanAttachment = (item: AuditAttachment, count?: CountHit): AuditAttachment => ({
  ...item,
  ...(item.filename === undefined ? {} : { filename: cleanText(item.filename, count) }),
  ...(item.doc_summary === undefined ? {} : { doc_summary: cleanText(item.doc_summary, count) }),
});

const toolCalls = (turn: TurnAudit): Pick<TurnAuditEvent, "tool_calls"> => {
  const { fileSearchCalls: files = 0, webSearchCalls: web = 0 } = turn;
  if (files === 0 && web === 0) return {};
  return {
    tool_calls: {
      ...(files === 0 ? {} : { file_search_calls: files }),
      ...(web === 0 ? {} : { web_search_calls: web }),
    },
  };
};

/** Bytes of the serialized envelope, well below the outbox's limit (outbox.md §4.5, fit rule). */
export const maxEnvelopeBytes = 61_440;

const withoutSummaries = (event: TurnAuditEvent): TurnAuditEvent =>
  event.attachments === undefined
    ? event
    : { ...event, attachments: event.attachments.map(({ doc_summary: _, ...rest }) => rest) };

const shorter: readonly ((event: TurnAuditEvent) => TurnAuditEvent)[] = [
  ({ response: _, ...rest }) => rest,
  ({ prompt: _, ...rest }) => rest,
  withoutSummaries,
  ({ attachments: _, ...rest }) => rest,
];

const fits = (event: AuditEnvelope): boolean => Buffer.byteLength(JSON.stringify(event)) <= maxEnvelopeBytes;

/** Drops response, prompt, document summaries, then the attachment list, until the event fits. */
const fitted = (event: TurnAuditEvent): TurnAuditEvent => {
  // Without texts and attachments every field is bounded: no need to measure.
  if (event.prompt === undefined && event.response === undefined && event.attachments === undefined)
    return event;
  let shortened = event;
  for (const shorten of shorter) {
    if (fits(shortened)) return shortened;
    shortened = shorten(shortened);
  }
  return shortened;
};
