// Generated from docs/openapi.json by scripts/client-types.mjs; do not edit.
// A newer server may add fields and enum values: ignore what you do not know (api.md §3, §10).

export interface Attachment {
  readonly id: string;
  readonly filename: string;
  readonly content_type: string;
  readonly size_bytes: number;
  readonly status: "pending" | "uploaded" | "ready" | "failed";
  readonly kind: "document" | "image";
  readonly error_code?: "upload_failed" | "upload_interrupted" | "file_too_large" | "storage_limit_exceeded" | "vector_store_failed" | "indexing_failed" | undefined;
  readonly doc_summary?: string | undefined;
  readonly img_thumbnail?: {
    readonly content_type: "image/webp";
    readonly width: number;
    readonly height: number;
    readonly data_base64: string;
  } | undefined;
  readonly summary_updated_at?: string | undefined;
  readonly created_at: string;
}

export interface AttachmentSummary {
  readonly attachment_id: string;
  readonly kind: "document" | "image";
  readonly filename: string;
  readonly status: "pending" | "uploaded" | "ready" | "failed";
  readonly img_thumbnail?: {
    readonly content_type: "image/webp";
    readonly width: number;
    readonly height: number;
    readonly data_base64: string;
  } | undefined;
}

export interface AttachmentUpload {
  readonly file: Blob;
}

export interface Chat {
  readonly id: string;
  readonly model: string;
  readonly title?: string | undefined;
  readonly is_temporary: boolean;
  readonly expires_at?: string | undefined;
  readonly message_count: number;
  readonly created_at: string;
  readonly updated_at: string;
}

export interface ChatCreate {
  readonly title?: string | undefined;
  readonly model?: string | undefined;
  readonly is_temporary?: boolean | undefined;
}

export interface ChatUpdate {
  readonly title: string;
}

export interface CitationsEvent {
  readonly items: ReadonlyArray<{
    readonly source: "file" | "web";
    readonly title: string;
    readonly url?: string | undefined;
    readonly attachment_id?: string | undefined;
    readonly snippet: string;
    readonly score?: number | undefined;
    readonly span?: {
      readonly start: number;
      readonly end: number;
    } | undefined;
    readonly position?: string | undefined;
  }>;
}

export interface DeltaEvent {
  readonly type: "text" | "reasoning";
  readonly content: string;
}

export interface DoneEvent {
  readonly usage: {
    readonly input_tokens: number;
    readonly output_tokens: number;
  } | null;
  readonly effective_model: string;
  readonly selected_model: string;
  readonly quota_decision: "allow" | "downgrade";
  readonly downgrade_from?: string | undefined;
  readonly downgrade_reason?: "premium_quota_exhausted" | "force_standard_tier" | "disable_premium_tier" | "model_disabled" | undefined;
  readonly quota_warnings?: ReadonlyArray<{
    readonly tier: "premium" | "total";
    readonly period: "daily" | "monthly";
    readonly remaining_percentage: number;
    readonly warning: boolean;
    readonly exhausted: boolean;
    readonly next_reset?: string | undefined;
  }> | undefined;
}

export interface ErrorEvent {
  readonly code: string;
  readonly message: string;
}

export interface ExportedChat {
  readonly chat: Chat;
  readonly exported_at: string;
  readonly messages: readonly ExportedMessage[];
}

export interface ExportedMessage {
  readonly id: string;
  readonly request_id: string;
  readonly role: "user" | "assistant" | "system";
  readonly content: string;
  readonly attachments: readonly AttachmentSummary[];
  readonly my_reaction: "like" | "dislike" | null;
  readonly model?: string | undefined;
  readonly input_tokens?: number | undefined;
  readonly output_tokens?: number | undefined;
  readonly created_at: string;
  readonly citations?: ReadonlyArray<{
    readonly source: "file" | "web";
    readonly title: string;
    readonly url?: string | undefined;
    readonly attachment_id?: string | undefined;
    readonly snippet: string;
    readonly score?: number | undefined;
    readonly span?: {
      readonly start: number;
      readonly end: number;
    } | undefined;
    readonly position?: string | undefined;
  }> | undefined;
}

export interface Model {
  readonly model_id: string;
  readonly display_name: string;
  readonly multiplier_display: string;
  readonly description?: string | undefined;
  readonly tier: "standard" | "premium";
  readonly multimodal_capabilities: readonly string[];
  readonly context_window: number;
}

export interface Period {
  readonly period: "daily" | "monthly";
  readonly limit_credits_micro: number;
  readonly used_credits_micro: number;
  readonly remaining_credits_micro: number;
  readonly remaining_percentage: number;
  readonly next_reset: string;
  readonly warning: boolean;
  readonly exhausted: boolean;
}

export type PingEvent = Readonly<Record<string, never>>;

export interface Problem {
  readonly type: "about:blank";
  readonly title: string;
  readonly status: number;
  readonly detail: string;
  readonly instance: string;
  readonly code: "invalid_request" | "invalid_filter" | "invalid_orderby" | "invalid_cursor" | "invalid_select" | "invalid_model" | "invalid_reaction_target" | "invalid_attachment" | "too_many_images" | "images_disabled" | "web_search_disabled" | "invalid_turn_state" | "document_limit_exceeded" | "storage_limit_exceeded" | "unauthorized" | "feature_not_licensed" | "forbidden" | "chat_not_found" | "turn_not_found" | "message_not_found" | "attachment_not_found" | "model_not_found" | "route_not_found" | "method_not_allowed" | "request_id_conflict" | "generation_in_progress" | "not_latest_turn" | "not_resumable" | "attachment_locked" | "provider_mismatch" | "file_too_large" | "body_too_large" | "unsupported_file_type" | "unsupported_media" | "idempotency_mismatch" | "input_too_long" | "context_budget_exceeded" | "quota_exceeded" | "too_many_requests" | "internal_error" | "provider_rejected" | "provider_unavailable" | "response_parse_error" | "configuration_error" | "vector_store_race" | "vector_store_timeout" | "service_unavailable" | "upload_concurrency_limit" | "shutting_down" | "request_timeout";
  readonly trace_id?: string | undefined;
  readonly errors?: ReadonlyArray<{
    readonly field: string;
    readonly message: string;
    readonly code?: string | undefined;
  }> | undefined;
  readonly context?: Readonly<Record<string, number>> | undefined;
  readonly quota_scope?: "tokens" | "web_search" | "code_interpreter" | "image_inputs" | "uploads" | undefined;
}

export interface QuotaStatus {
  readonly warning_threshold_pct: number;
  readonly tiers: readonly TierStatus[];
}

export interface Reaction {
  readonly message_id: string;
  readonly reaction: "like" | "dislike";
  readonly created_at: string;
}

export interface ReactionSet {
  readonly reaction: "like" | "dislike";
}

export interface SendMessage {
  readonly content: string;
  readonly request_id?: string | undefined;
  readonly attachment_ids?: readonly string[] | undefined;
  readonly web_search?: {
    readonly enabled: boolean;
  } | undefined;
  readonly on_disconnect?: "cancel" | "continue" | undefined;
}

export interface StreamStartedEvent {
  readonly request_id: string;
  readonly message_id: string;
  readonly is_new_turn: boolean;
  readonly thread_summary_applied?: {
    readonly token_estimate: number;
  } | undefined;
}

export interface TierStatus {
  readonly tier: "premium" | "total";
  readonly periods: readonly Period[];
}

export interface ToolEvent {
  readonly phase: "start" | "done";
  readonly name: "file_search" | "web_search" | "code_interpreter" | "file_load";
  readonly details: Readonly<Record<string, unknown>>;
}

export interface TurnEdit {
  readonly content: string;
  readonly on_disconnect?: "cancel" | "continue" | undefined;
}

export interface TurnStatus {
  readonly request_id: string;
  readonly state: "running" | "done" | "error" | "cancelled";
  readonly error_code?: string | undefined;
  readonly assistant_message_id?: string | undefined;
  readonly updated_at: string;
}

/** What each operation takes and gives, by its operationId. */
export interface Operations {
  /** POST /chats: Create a chat */
  readonly createChat: {
    readonly path: Readonly<Record<string, never>>;
    readonly query: Readonly<Record<string, never>>;
    readonly body: ChatCreate;
    readonly response: Chat;
    readonly code: "body_too_large" | "feature_not_licensed" | "forbidden" | "internal_error" | "invalid_model" | "invalid_request" | "request_timeout" | "service_unavailable" | "too_many_requests" | "unauthorized";
  };
  /** GET /chats: List your chats */
  readonly listChats: {
    readonly path: Readonly<Record<string, never>>;
    readonly query: {
      readonly limit?: number | undefined;
      readonly cursor?: string | undefined;
      readonly "$filter"?: string | undefined;
      readonly "$orderby"?: string | undefined;
      readonly "$select"?: string | undefined;
    };
    readonly body: undefined;
    readonly response: {
      readonly items: ReadonlyArray<{
        readonly id?: string | undefined;
        readonly model?: string | undefined;
        readonly title?: string | undefined;
        readonly is_temporary?: boolean | undefined;
        readonly expires_at?: string | undefined;
        readonly message_count?: number | undefined;
        readonly created_at?: string | undefined;
        readonly updated_at?: string | undefined;
      }>;
      readonly page_info: {
        readonly limit: number;
        readonly next_cursor: string | null;
        readonly prev_cursor: string | null;
      };
    };
    readonly code: "feature_not_licensed" | "forbidden" | "internal_error" | "invalid_cursor" | "invalid_filter" | "invalid_orderby" | "invalid_request" | "invalid_select" | "request_timeout" | "service_unavailable" | "too_many_requests" | "unauthorized";
  };
  /** GET /chats/{id}: Read a chat */
  readonly getChat: {
    readonly path: {
      readonly id: string;
    };
    readonly query: Readonly<Record<string, never>>;
    readonly body: undefined;
    readonly response: Chat;
    readonly code: "chat_not_found" | "feature_not_licensed" | "forbidden" | "internal_error" | "invalid_request" | "request_timeout" | "service_unavailable" | "too_many_requests" | "unauthorized";
  };
  /** PATCH /chats/{id}: Rename a chat */
  readonly renameChat: {
    readonly path: {
      readonly id: string;
    };
    readonly query: Readonly<Record<string, never>>;
    readonly body: ChatUpdate;
    readonly response: Chat;
    readonly code: "body_too_large" | "chat_not_found" | "feature_not_licensed" | "forbidden" | "internal_error" | "invalid_request" | "request_timeout" | "service_unavailable" | "too_many_requests" | "unauthorized";
  };
  /** DELETE /chats/{id}: Delete a chat, for good */
  readonly deleteChat: {
    readonly path: {
      readonly id: string;
    };
    readonly query: Readonly<Record<string, never>>;
    readonly body: undefined;
    readonly response: undefined;
    readonly code: "chat_not_found" | "feature_not_licensed" | "forbidden" | "internal_error" | "invalid_request" | "request_timeout" | "service_unavailable" | "too_many_requests" | "unauthorized";
  };
  /** POST /chats/{id}/attachments: Upload a file */
  readonly uploadAttachment: {
    readonly path: {
      readonly id: string;
    };
    readonly query: Readonly<Record<string, never>>;
    readonly body: AttachmentUpload;
    readonly response: Attachment;
    readonly code: "attachment_not_found" | "chat_not_found" | "configuration_error" | "document_limit_exceeded" | "feature_not_licensed" | "file_too_large" | "forbidden" | "images_disabled" | "internal_error" | "invalid_request" | "provider_mismatch" | "provider_rejected" | "provider_unavailable" | "quota_exceeded" | "response_parse_error" | "service_unavailable" | "shutting_down" | "storage_limit_exceeded" | "too_many_requests" | "unauthorized" | "unsupported_file_type" | "unsupported_media" | "upload_concurrency_limit" | "vector_store_race" | "vector_store_timeout";
  };
  /** GET /chats/{id}/attachments/{attachment_id}: Read an attachment */
  readonly getAttachment: {
    readonly path: {
      readonly id: string;
      readonly attachment_id: string;
    };
    readonly query: Readonly<Record<string, never>>;
    readonly body: undefined;
    readonly response: Attachment;
    readonly code: "attachment_not_found" | "chat_not_found" | "feature_not_licensed" | "forbidden" | "internal_error" | "invalid_request" | "request_timeout" | "service_unavailable" | "too_many_requests" | "unauthorized";
  };
  /** DELETE /chats/{id}/attachments/{attachment_id}: Delete an attachment no message refers to */
  readonly deleteAttachment: {
    readonly path: {
      readonly id: string;
      readonly attachment_id: string;
    };
    readonly query: Readonly<Record<string, never>>;
    readonly body: undefined;
    readonly response: undefined;
    readonly code: "attachment_locked" | "attachment_not_found" | "chat_not_found" | "feature_not_licensed" | "forbidden" | "internal_error" | "invalid_request" | "request_timeout" | "service_unavailable" | "too_many_requests" | "unauthorized";
  };
  /** GET /chats/{id}/export: Download a chat as Markdown or JSON */
  readonly exportChat: {
    readonly path: {
      readonly id: string;
    };
    readonly query: {
      readonly format?: "markdown" | "json" | undefined;
    };
    readonly body: undefined;
    readonly response: string | ExportedChat;
    readonly code: "chat_not_found" | "feature_not_licensed" | "forbidden" | "internal_error" | "invalid_request" | "request_timeout" | "service_unavailable" | "too_many_requests" | "unauthorized";
  };
  /** GET /chats/{id}/messages: List the messages of a chat */
  readonly listMessages: {
    readonly path: {
      readonly id: string;
    };
    readonly query: {
      readonly limit?: number | undefined;
      readonly cursor?: string | undefined;
      readonly "$filter"?: string | undefined;
      readonly "$orderby"?: string | undefined;
      readonly "$select"?: string | undefined;
    };
    readonly body: undefined;
    readonly response: {
      readonly items: ReadonlyArray<{
        readonly id?: string | undefined;
        readonly request_id?: string | undefined;
        readonly role?: "user" | "assistant" | "system" | undefined;
        readonly content?: string | undefined;
        readonly attachments?: readonly AttachmentSummary[] | undefined;
        readonly my_reaction?: "like" | "dislike" | null | undefined;
        readonly model?: string | undefined;
        readonly input_tokens?: number | undefined;
        readonly output_tokens?: number | undefined;
        readonly created_at?: string | undefined;
      }>;
      readonly page_info: {
        readonly limit: number;
        readonly next_cursor: string | null;
        readonly prev_cursor: string | null;
      };
    };
    readonly code: "chat_not_found" | "feature_not_licensed" | "forbidden" | "internal_error" | "invalid_cursor" | "invalid_filter" | "invalid_orderby" | "invalid_request" | "invalid_select" | "request_timeout" | "service_unavailable" | "too_many_requests" | "unauthorized";
  };
  /** PUT /chats/{id}/messages/{msg_id}/reaction: Like or dislike an answer */
  readonly setReaction: {
    readonly path: {
      readonly id: string;
      readonly msg_id: string;
    };
    readonly query: Readonly<Record<string, never>>;
    readonly body: ReactionSet;
    readonly response: Reaction;
    readonly code: "body_too_large" | "chat_not_found" | "feature_not_licensed" | "forbidden" | "internal_error" | "invalid_reaction_target" | "invalid_request" | "message_not_found" | "request_timeout" | "service_unavailable" | "too_many_requests" | "unauthorized";
  };
  /** DELETE /chats/{id}/messages/{msg_id}/reaction: Take a reaction back */
  readonly deleteReaction: {
    readonly path: {
      readonly id: string;
      readonly msg_id: string;
    };
    readonly query: Readonly<Record<string, never>>;
    readonly body: undefined;
    readonly response: undefined;
    readonly code: "chat_not_found" | "feature_not_licensed" | "forbidden" | "internal_error" | "invalid_request" | "message_not_found" | "request_timeout" | "service_unavailable" | "too_many_requests" | "unauthorized";
  };
  /** POST /chats/{id}/messages:stream: Send a message and stream the answer */
  readonly sendMessage: {
    readonly path: {
      readonly id: string;
    };
    readonly query: Readonly<Record<string, never>>;
    readonly body: SendMessage;
    readonly response: StreamStartedEvent | PingEvent | DeltaEvent | ToolEvent | CitationsEvent | DoneEvent | ErrorEvent;
    readonly code: "body_too_large" | "chat_not_found" | "context_budget_exceeded" | "feature_not_licensed" | "forbidden" | "generation_in_progress" | "idempotency_mismatch" | "images_disabled" | "input_too_long" | "internal_error" | "invalid_attachment" | "invalid_request" | "quota_exceeded" | "request_id_conflict" | "service_unavailable" | "shutting_down" | "too_many_images" | "too_many_requests" | "unauthorized" | "unsupported_media" | "web_search_disabled";
  };
  /** GET /chats/{id}/turns/{request_id}: How a turn stands */
  readonly getTurn: {
    readonly path: {
      readonly id: string;
      readonly request_id: string;
    };
    readonly query: Readonly<Record<string, never>>;
    readonly body: undefined;
    readonly response: TurnStatus;
    readonly code: "chat_not_found" | "feature_not_licensed" | "forbidden" | "internal_error" | "invalid_request" | "request_timeout" | "service_unavailable" | "too_many_requests" | "turn_not_found" | "unauthorized";
  };
  /** PATCH /chats/{id}/turns/{request_id}: Replace the latest message and answer it */
  readonly editTurn: {
    readonly path: {
      readonly id: string;
      readonly request_id: string;
    };
    readonly query: {
      readonly if_turn_updated_at?: string | undefined;
    };
    readonly body: TurnEdit;
    readonly response: StreamStartedEvent | PingEvent | DeltaEvent | ToolEvent | CitationsEvent | DoneEvent | ErrorEvent;
    readonly code: "body_too_large" | "chat_not_found" | "context_budget_exceeded" | "feature_not_licensed" | "forbidden" | "generation_in_progress" | "images_disabled" | "input_too_long" | "internal_error" | "invalid_attachment" | "invalid_request" | "invalid_turn_state" | "not_latest_turn" | "quota_exceeded" | "service_unavailable" | "shutting_down" | "too_many_images" | "too_many_requests" | "turn_not_found" | "unauthorized" | "unsupported_media" | "web_search_disabled";
  };
  /** DELETE /chats/{id}/turns/{request_id}: Delete the latest turn */
  readonly deleteTurn: {
    readonly path: {
      readonly id: string;
      readonly request_id: string;
    };
    readonly query: {
      readonly if_turn_updated_at?: string | undefined;
    };
    readonly body: undefined;
    readonly response: undefined;
    readonly code: "chat_not_found" | "feature_not_licensed" | "forbidden" | "internal_error" | "invalid_request" | "invalid_turn_state" | "not_latest_turn" | "request_timeout" | "service_unavailable" | "shutting_down" | "too_many_requests" | "turn_not_found" | "unauthorized";
  };
  /** POST /chats/{id}/turns/{request_id}/cancel: Stop a running answer */
  readonly cancelTurn: {
    readonly path: {
      readonly id: string;
      readonly request_id: string;
    };
    readonly query: Readonly<Record<string, never>>;
    readonly body: undefined;
    readonly response: TurnStatus;
    readonly code: "chat_not_found" | "feature_not_licensed" | "forbidden" | "internal_error" | "invalid_request" | "request_timeout" | "service_unavailable" | "too_many_requests" | "turn_not_found" | "unauthorized";
  };
  /** POST /chats/{id}/turns/{request_id}/retry: Answer the latest message again */
  readonly retryTurn: {
    readonly path: {
      readonly id: string;
      readonly request_id: string;
    };
    readonly query: {
      readonly if_turn_updated_at?: string | undefined;
      readonly on_disconnect?: "cancel" | "continue" | undefined;
    };
    readonly body: undefined;
    readonly response: StreamStartedEvent | PingEvent | DeltaEvent | ToolEvent | CitationsEvent | DoneEvent | ErrorEvent;
    readonly code: "chat_not_found" | "context_budget_exceeded" | "feature_not_licensed" | "forbidden" | "generation_in_progress" | "images_disabled" | "input_too_long" | "internal_error" | "invalid_attachment" | "invalid_request" | "invalid_turn_state" | "not_latest_turn" | "quota_exceeded" | "service_unavailable" | "shutting_down" | "too_many_images" | "too_many_requests" | "turn_not_found" | "unauthorized" | "unsupported_media" | "web_search_disabled";
  };
  /** GET /chats/{id}/turns/{request_id}/stream: Read the stream of a turn from an event on */
  readonly resumeTurn: {
    readonly path: {
      readonly id: string;
      readonly request_id: string;
    };
    readonly query: {
      readonly after?: number | undefined;
    };
    readonly body: undefined;
    readonly response: StreamStartedEvent | PingEvent | DeltaEvent | ToolEvent | CitationsEvent | DoneEvent | ErrorEvent;
    readonly code: "chat_not_found" | "feature_not_licensed" | "forbidden" | "internal_error" | "invalid_request" | "not_resumable" | "service_unavailable" | "too_many_requests" | "turn_not_found" | "unauthorized";
  };
  /** GET /models: List the models you can choose from */
  readonly listModels: {
    readonly path: Readonly<Record<string, never>>;
    readonly query: Readonly<Record<string, never>>;
    readonly body: undefined;
    readonly response: {
      readonly items: readonly Model[];
    };
    readonly code: "feature_not_licensed" | "forbidden" | "internal_error" | "request_timeout" | "service_unavailable" | "too_many_requests" | "unauthorized";
  };
  /** GET /models/{model_id}: Read a model */
  readonly getModel: {
    readonly path: {
      readonly model_id: string;
    };
    readonly query: Readonly<Record<string, never>>;
    readonly body: undefined;
    readonly response: Model;
    readonly code: "feature_not_licensed" | "forbidden" | "internal_error" | "invalid_request" | "model_not_found" | "request_timeout" | "service_unavailable" | "too_many_requests" | "unauthorized";
  };
  /** GET /quota/status: See how much quota is left */
  readonly getQuotaStatus: {
    readonly path: Readonly<Record<string, never>>;
    readonly query: Readonly<Record<string, never>>;
    readonly body: undefined;
    readonly response: QuotaStatus;
    readonly code: "feature_not_licensed" | "forbidden" | "internal_error" | "request_timeout" | "service_unavailable" | "too_many_requests" | "unauthorized";
  };
  /** GET /search: Search your chats */
  readonly searchChats: {
    readonly path: Readonly<Record<string, never>>;
    readonly query: {
      readonly q: string;
      readonly limit?: number | undefined;
      readonly cursor?: string | undefined;
    };
    readonly body: undefined;
    readonly response: {
      readonly items: ReadonlyArray<{
        readonly kind?: "message" | "title" | undefined;
        readonly chat_id?: string | undefined;
        readonly chat_title?: string | undefined;
        readonly message_id?: string | undefined;
        readonly role?: "user" | "assistant" | "system" | undefined;
        readonly created_at?: string | undefined;
        readonly excerpt?: string | undefined;
        readonly highlights?: ReadonlyArray<{
          readonly start: number;
          readonly end: number;
        }> | undefined;
      }>;
      readonly page_info: {
        readonly limit: number;
        readonly next_cursor: string | null;
        readonly prev_cursor: string | null;
      };
    };
    readonly code: "feature_not_licensed" | "forbidden" | "internal_error" | "invalid_cursor" | "invalid_filter" | "invalid_request" | "request_timeout" | "service_unavailable" | "too_many_requests" | "unauthorized";
  };
}
