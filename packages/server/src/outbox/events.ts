/**
 * What travels on the six queues, as it is on the wire (outbox.md §4). Integers are JSON numbers and
 * safe integers. An optional key is left out when empty; a nullable one is present with null.
 */

export interface UsageTokens {
  readonly input_tokens: number;
  readonly output_tokens: number;
  /** Subsets of `input_tokens`. */
  readonly cache_read_input_tokens: number;
  readonly cache_write_input_tokens: number;
  /** Subset of `output_tokens`. */
  readonly reasoning_tokens: number;
}

export type BillingOutcome = "completed" | "failed" | "aborted" | "system_task";
export type SettlementMethod = "actual" | "estimated" | "released" | "none";
export type SystemTaskType = "thread_summary_update" | "doc_summary_generation";

/** What a turn or a system task cost (outbox.md §4.1). */
export interface UsageEvent {
  readonly tenant_id: string;
  readonly user_id?: string | undefined;
  readonly chat_id: string;
  readonly turn_id?: string | undefined;
  readonly request_id: string;
  readonly effective_model: string;
  readonly selected_model: string;
  readonly terminal_state: "completed" | "failed" | "cancelled";
  readonly billing_outcome: BillingOutcome;
  readonly usage: UsageTokens | null;
  /** The authoritative debit in micro-credits; consumers never recompute it. */
  readonly actual_credits_micro: number;
  readonly settlement_method: SettlementMethod;
  readonly policy_version_applied: number;
  readonly web_search_calls: number;
  readonly code_interpreter_calls: number;
  readonly timestamp: string;
  readonly requester_type: "user" | "system";
  readonly dedupe_key?: string | undefined;
  readonly system_task_type?: SystemTaskType | undefined;
  readonly overshoot_capped: boolean;
  readonly reserved_credits_micro: number;
  readonly file_search_calls: number;
  readonly error_code: string | null;
  readonly completion_signal: {
    readonly kind: "incomplete";
    readonly reason: "max_tokens" | "content_filter" | "other";
  } | null;
}

interface AuditCommon {
  readonly timestamp: string;
  readonly tenant_id: string;
  readonly requester_type: "user" | "system";
  /** 32 hex digits, captured before the transaction opened. */
  readonly trace_id?: string | undefined;
}

export interface AuditAttachment {
  readonly attachment_id: string;
  readonly attachment_kind: "document" | "image";
  readonly filename?: string | undefined;
  readonly content_type?: string | undefined;
  readonly size_bytes?: number | undefined;
  readonly image_used_in_turn?: boolean | undefined;
  readonly doc_summary?: string | undefined;
}

/** The end of a turn, for the audit (outbox.md §4.4). */
export interface TurnAuditEvent extends AuditCommon {
  readonly type: "turn";
  readonly event_type: "turn_completed" | "turn_failed";
  readonly user_id: string;
  readonly chat_id: string;
  readonly turn_id: string;
  readonly request_id: string;
  readonly selected_model: string;
  readonly effective_model: string;
  readonly policy_version_applied?: number | undefined;
  readonly usage: {
    readonly input_tokens: number;
    readonly output_tokens: number;
    readonly model?: string | undefined;
    readonly cache_read_input_tokens?: number | undefined;
    readonly cache_write_input_tokens?: number | undefined;
    readonly reasoning_tokens?: number | undefined;
  };
  readonly latency_ms: { readonly ttft_ms?: number | undefined; readonly total_ms?: number | undefined };
  readonly policy_decisions: {
    readonly license?: { readonly feature: string; readonly decision: string } | undefined;
    readonly quota: {
      readonly decision: string;
      readonly quota_scope?: "tokens" | "web_search" | undefined;
      readonly downgrade_from?: string | undefined;
      readonly downgrade_reason?: string | undefined;
    };
  };
  readonly error_code?: string | undefined;
  readonly prompt?: string | undefined;
  readonly response?: string | undefined;
  readonly attachments?: readonly AuditAttachment[] | undefined;
  readonly tool_calls?:
    | { readonly file_search_calls?: number | undefined; readonly web_search_calls?: number | undefined }
    | undefined;
}

export interface MutationAuditEvent extends AuditCommon {
  readonly type: "mutation";
  readonly event_type: "turn_retry" | "turn_edit";
  readonly actor_user_id: string;
  readonly chat_id: string;
  /** The replaced turn. */
  readonly turn_id: string;
  readonly original_request_id: string;
  readonly new_request_id: string;
}

export interface DeleteAuditEvent extends AuditCommon {
  readonly type: "delete";
  readonly event_type: "turn_delete";
  readonly actor_user_id: string;
  readonly chat_id: string;
  readonly turn_id: string;
  readonly request_id: string;
}

/** Providers hold nothing of a deleted chat any more: its receipt, written once (attachments.md §14). */
export interface ErasureAuditEvent extends AuditCommon {
  readonly type: "erasure";
  readonly event_type: "chat_provider_data_erased";
  /** Whose chat it was. */
  readonly user_id: string;
  readonly chat_id: string;
  /** The cleanup's `system_request_id`. */
  readonly request_id: string;
  readonly reason: "chat_soft_delete" | "temporary_chat_expired";
  readonly chat_deleted_at: string;
  readonly files_deleted: number;
  /** Vector stores. */
  readonly stores_deleted: number;
}

export type AuditEnvelope = TurnAuditEvent | MutationAuditEvent | DeleteAuditEvent | ErasureAuditEvent;

/** A provider file to delete (outbox.md §4.2). */
export interface AttachmentCleanupEvent {
  readonly event_type: "attachment_deleted";
  readonly tenant_id: string;
  readonly chat_id: string;
  readonly attachment_id: string;
  readonly provider_file_id: string | null;
  readonly vector_store_id: string | null;
  readonly storage_backend: string;
  readonly attachment_kind: "document" | "image";
  readonly deleted_at: string;
}

/** The provider objects of a deleted chat (outbox.md §4.3). */
export interface ChatCleanupEvent {
  readonly reason: "chat_soft_delete" | "temporary_chat_expired";
  readonly tenant_id: string;
  readonly chat_id: string;
  /** Version 4, made once; the correlation id of every delivery. */
  readonly system_request_id: string;
  readonly chat_deleted_at: string;
}

/** A range of messages to summarise (outbox.md §4.6); timestamps keep their microseconds. */
export interface ThreadSummaryTaskPayload {
  readonly tenant_id: string;
  readonly chat_id: string;
  readonly system_request_id: string;
  readonly system_task_type: "thread_summary_update";
  readonly base_frontier_created_at: string | null;
  readonly base_frontier_message_id: string | null;
  readonly frozen_target_created_at: string;
  readonly frozen_target_message_id: string;
}

/** A document to summarise (outbox.md §4.7). */
export interface DocSummaryTaskPayload {
  readonly tenant_id: string;
  readonly chat_id: string;
  readonly attachment_id: string;
  readonly system_request_id: string;
  readonly system_task_type: "doc_summary_generation";
}

/** An event with the queue it goes to. */
export type OutboxEvent =
  | { readonly kind: "usage"; readonly event: UsageEvent }
  | { readonly kind: "audit"; readonly event: AuditEnvelope }
  | { readonly kind: "attachment_cleanup"; readonly event: AttachmentCleanupEvent }
  | { readonly kind: "chat_cleanup"; readonly event: ChatCleanupEvent }
  | { readonly kind: "thread_summary"; readonly event: ThreadSummaryTaskPayload }
  | { readonly kind: "doc_summary"; readonly event: DocSummaryTaskPayload };
