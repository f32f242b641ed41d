/** Tokens as the provider reported them; the cached ones are part of the input, reasoning of the output. */
export interface UsageTokens {
  readonly input_tokens: number;
  readonly output_tokens: number;
  readonly cache_read_input_tokens: number;
  readonly cache_write_input_tokens: number;
  readonly reasoning_tokens: number;
}

/**
 * What one turn or one system task cost. `actual_credits_micro` is the authoritative debit, in millionths
 * of a credit: add it up, never compute it again from the tokens.
 */
export interface UsageEvent {
  readonly tenant_id: string;
  /** Absent for system tasks. */
  readonly user_id?: string;
  readonly chat_id: string;
  /** Absent for system tasks. */
  readonly turn_id?: string;
  readonly request_id: string;
  /** The model that answered; differs from `selected_model` after a downgrade. */
  readonly effective_model: string;
  readonly selected_model: string;
  readonly terminal_state: "completed" | "failed" | "cancelled";
  readonly billing_outcome: "completed" | "failed" | "aborted" | "system_task";
  readonly settlement_method: "actual" | "estimated" | "released" | "none";
  /** Null when the provider reported none. */
  readonly usage: UsageTokens | null;
  readonly actual_credits_micro: number;
  /** What was set aside for the turn before it ran. */
  readonly reserved_credits_micro: number;
  /** The charge would have been higher than the reserve allows. */
  readonly overshoot_capped: boolean;
  readonly policy_version_applied: number;
  readonly web_search_calls: number;
  readonly code_interpreter_calls: number;
  readonly file_search_calls: number;
  /** RFC 3339 in UTC, with milliseconds. */
  readonly timestamp: string;
  readonly requester_type: "user" | "system";
  readonly dedupe_key?: string;
  readonly system_task_type?: "thread_summary_update" | "doc_summary_generation";
  readonly error_code: string | null;
  /** Why an answer ended early; null for a whole one. */
  readonly completion_signal: {
    readonly kind: "incomplete";
    readonly reason: "max_tokens" | "content_filter" | "other";
  } | null;
}

interface AuditCommon {
  readonly tenant_id: string;
  readonly chat_id: string;
  /** RFC 3339 in UTC, with milliseconds. */
  readonly timestamp: string;
  readonly requester_type: "user" | "system";
  /** 32 hex digits; the W3C trace the turn belonged to. */
  readonly trace_id?: string;
}

/** A turn that ended. */
export interface TurnAuditEvent extends AuditCommon {
  readonly type: "turn";
  /** Whatever did not complete is `turn_failed`. */
  readonly event_type: "turn_completed" | "turn_failed";
  /** The nil UUID for a turn without a user. */
  readonly user_id: string;
  readonly turn_id: string;
  readonly request_id: string;
  readonly selected_model: string;
  readonly effective_model: string;
  readonly policy_version_applied?: number;
  /** Zeros when unknown. */
  readonly usage: Pick<UsageTokens, "input_tokens" | "output_tokens"> &
    Partial<UsageTokens> & { readonly model?: string };
  readonly latency_ms: { readonly ttft_ms?: number; readonly total_ms?: number };
  readonly policy_decisions: {
    readonly license?: { readonly feature: string; readonly decision: string };
    readonly quota: {
      readonly decision: string;
      readonly quota_scope?: "tokens" | "web_search";
      readonly downgrade_from?: string;
      readonly downgrade_reason?: string;
    };
  };
  readonly error_code?: string;
  /** Redacted and cut; only where the server is told to include content. */
  readonly prompt?: string;
  readonly response?: string;
  readonly attachments?: readonly {
    readonly attachment_id: string;
    readonly attachment_kind: "document" | "image";
    readonly filename?: string;
    readonly content_type?: string;
    readonly size_bytes?: number;
    readonly image_used_in_turn?: boolean;
    readonly doc_summary?: string;
  }[];
  readonly tool_calls?: { readonly file_search_calls?: number; readonly web_search_calls?: number };
}

/** A turn that was replaced by a retry or an edit. */
export interface MutationAuditEvent extends AuditCommon {
  readonly type: "mutation";
  readonly event_type: "turn_retry" | "turn_edit";
  readonly actor_user_id: string;
  /** The replaced turn. */
  readonly turn_id: string;
  readonly original_request_id: string;
  readonly new_request_id: string;
}

/** A turn that was deleted. */
export interface DeleteAuditEvent extends AuditCommon {
  readonly type: "delete";
  readonly event_type: "turn_delete";
  readonly actor_user_id: string;
  readonly turn_id: string;
  readonly request_id: string;
}

/** Providers hold neither files nor a vector store of a deleted chat any more. Once per chat. */
export interface ErasureAuditEvent extends AuditCommon {
  readonly type: "erasure";
  readonly event_type: "chat_provider_data_erased";
  /** Whose chat it was. */
  readonly user_id: string;
  /** Of the cleanup. */
  readonly request_id: string;
  readonly reason: "chat_soft_delete" | "temporary_chat_expired";
  readonly chat_deleted_at: string;
  readonly files_deleted: number;
  /** Vector stores. */
  readonly stores_deleted: number;
}

export type AuditEvent = TurnAuditEvent | MutationAuditEvent | DeleteAuditEvent | ErasureAuditEvent;
