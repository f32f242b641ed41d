/** Which values a label may take: a closed list, or values learned at run time that match a shape. */
export type LabelRule = readonly string[] | RegExp;

export interface MetricSpec {
  readonly type: "counter" | "histogram" | "gauge";
  readonly help: string;
  readonly labels: Readonly<Record<string, LabelRule>>;
  readonly buckets?: readonly number[];
}

type Labels = Readonly<Record<string, LabelRule>>;

const counter = <const L extends Labels = Record<never, LabelRule>>(help: string, labels?: L) =>
  ({ type: "counter", help, labels: labels ?? ({} as L) }) as const;
const gauge = <const L extends Labels = Record<never, LabelRule>>(help: string, labels?: L) =>
  ({ type: "gauge", help, labels: labels ?? ({} as L) }) as const;
const histogram = <const L extends Labels = Record<never, LabelRule>>(
  buckets: readonly number[],
  help: string,
  labels?: L,
) => ({ type: "histogram", help, labels: labels ?? ({} as L), buckets }) as const;

const ms = [1, 2, 5, 10, 20, 50, 100, 200, 500, 1e3, 2e3, 5e3, 1e4, 3e4, 6e4, 12e4, 30e4];
const seconds = [0.001, 0.01, 0.05, 0.1, 0.5, 1, 5, 10, 30, 60];
const tokens = [10, 50, 100, 500, 1e3, 2e3, 5e3, 1e4, 2e4, 5e4, 1e5, 2e5];
const bytes = [0, 1, 2, 3, 4, 5, 6, 7, 8].map((power) => 1024 * 4 ** power);
const counts = [0, 1, 2, 3, 4, 5, 10, 20, 50];

/** Configuration keys, catalog ids, method names: never ids of data (checked when a value is learned). */
const name = /^[A-Za-z0-9_][A-Za-z0-9_.:/-]{0,63}$/;
const httpStatus = /^([1-5]\d\d|timeout|transport|stream)$/;
const routeTemplate = /^(none|\/[\w/:{}.*-]{0,100})$/;

const providerModel = { provider: name, model: name } as const;
const period = { period: ["daily", "monthly"] } as const;
const tiers = ["standard", "premium"] as const;
const decisions = ["allow", "downgrade", "reject"] as const;
const toolNames = ["file_search", "web_search", "code_interpreter", "file_load"] as const;
const trigger = {
  trigger: ["user_stop", "disconnect", "timeout", "shutdown", "chat_deleted"],
} as const;
const queues = [
  "usage",
  "attachment_cleanup",
  "chat_cleanup",
  "thread_summary",
  "audit",
  "doc_summary",
] as const;
const kind = { kind: queues } as const;
const mutation = ["retry", "edit", "delete"] as const;
const cleanupResource = ["file", "vector_store"] as const;
const turnErrors = [
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
const orphanReason = { reason: ["stale_progress", "dead_owner"] } as const;

const streaming = {
  stream_started: counter("provider call begins", providerModel),
  stream_completed: counter("turns ended as completed, early stops included", providerModel),
  stream_incomplete: counter("completed turns that stopped early", {
    ...providerModel,
    reason: ["max_tokens", "content_filter", "other"],
  }),
  stream_failed: counter("turns ended as failed", { ...providerModel, error_code: turnErrors }),
  stream_disconnected: counter("client gone", { stage: ["before_first_token", "mid_stream"] }),
  stream_replay: counter("sends answered from storage", { reason: ["idempotent_completed"] }),
  active_streams: gauge("open turn tasks"),
  ttft_provider_ms: histogram(ms, "request sent to first provider byte of content", providerModel),
  ttft_overhead_ms: histogram(ms, "first provider byte to first delta handed to the socket", providerModel),
  stream_total_latency_ms: histogram(ms, "request received to terminal event", providerModel),
  preflight_latency_ms: histogram(ms, "request received to reserve committed", { decision: decisions }),
  cancel_requested: counter("cancellation signals fired", trigger),
  cancel_effective: counter("provider sockets closed by a cancellation", trigger),
  time_to_abort_ms: histogram(ms, "cancellation signal to provider socket closed", trigger),
  time_from_ui_disconnect_to_cancel_ms: histogram(ms, "close noticed to provider socket closed", trigger),
  tokens_after_cancel: histogram(tokens, "estimated tokens received after the signal", trigger),
  cancel_orphan: counter("cancelled turns still running after the orphan timeout"),
  streams_aborted: counter("billing outcome aborted", {
    trigger: ["client_disconnect", "orphan_timeout", "internal_abort", "user_stop"],
  }),
} as const satisfies Record<string, MetricSpec>;

const turns = {
  turn_mutation: counter("retries, edits and deletes", {
    op: mutation,
    result: ["ok", "not_latest", "invalid_state", "forbidden", "generation_in_progress", "error"],
  }),
  turn_mutation_latency_ms: histogram(ms, "duration of a mutation", { op: mutation }),
  finalization_latency_ms: histogram(ms, "transaction 2, commit included"),
  finalization_cas_lost: counter("finalizers that came second", { caller: name }),
  unknown_error_code: counter("failed turns with a code outside the table"),
  orphan_detected: counter("orphan candidates seen", orphanReason),
  orphan_finalized: counter("orphans ended", orphanReason),
  orphan_scan_duration_seconds: histogram(seconds, "duration of one scan"),
} as const satisfies Record<string, MetricSpec>;

const preflight = { decision: decisions, model: name, tier: tiers } as const;

const quota = {
  quota_preflight: counter("credit decisions", preflight),
  quota_preflight_v2: counter("credit decisions by kind", { kind: ["text", "image"], ...preflight }),
  quota_tier_downgrade: counter("downgrades", { from_tier: tiers, to_tier: tiers }),
  quota_reserve: counter("committed reserves", period),
  quota_commit: counter("settlements with actual usage", period),
  quota_overshoot: counter("charges above the reserve", period),
  quota_negative: counter("balances below zero", period),
  quota_image_commit: counter("settled turns with images", period),
  quota_reserve_anomaly: counter("reserves that would have gone below zero", period),
  quota_overshoot_exceeded: counter("charges capped at the reserve"),
  credits_overflow: counter("arithmetic overflows"),
  quota_estimated_tokens: histogram(tokens, "reserved tokens of admitted turns"),
  quota_actual_tokens: histogram(tokens, "tokens of actual settlements"),
  quota_overshoot_tokens: histogram(tokens, "tokens above the reserve"),
} as const satisfies Record<string, MetricSpec>;

const retrieval = {
  tool_calls: counter("tool events", { tool: toolNames, phase: ["start", "done", "error"] }),
  tool_call_limited: counter("per-message tool limit hit", { tool: toolNames }),
  code_interpreter_calls: counter("completed code interpreter calls", { model: name }),
  file_search_latency_ms: histogram(ms, "start to done", providerModel),
  web_search_latency_ms: histogram(ms, "start to done", providerModel),
  web_search_disabled: counter("kill switch acted"),
  code_interpreter_disabled: counter("kill switch acted"),
  citations_count: histogram(counts, "items per citations event"),
  citations_by_source: counter("citations sent", { source: ["file", "web"] }),
  citations_dropped: counter("citations left out", { reason: ["unknown", "deleted", "invalid"] }),
  retrieval_latency_ms: histogram(ms, "search calls", { provider: name }),
  retrieval_chunks_returned: histogram(counts, "chunks per search"),
  retrieval_zero_hit: counter("searches without a hit"),
  context_truncation: counter("context items dropped", {
    truncated_item: ["thread_summary", "recent_messages", "doc_summary"],
  }),
  thread_summary_trigger: counter("summary decisions", { result: ["scheduled", "not_needed"] }),
  thread_summary_execution: counter("summary runs", {
    result: ["success", "provider_error", "timeout", "retry", "empty_summary"],
  }),
  thread_summary_cas_conflicts: counter("summaries that lost a race"),
  summary_fallback: counter("summaries made by the fallback"),
  attachment_summary: counter("document summaries", { result: ["ok", "failed", "skipped"] }),
} as const satisfies Record<string, MetricSpec>;

const files = {
  attachment_upload: counter("uploads", {
    kind: ["document", "image"],
    result: [
      "ok",
      "file_too_large",
      "unsupported_type",
      "provider_error",
      "storage_limit_exceeded",
      "concurrency_limit",
    ],
  }),
  attachment_upload_bytes: histogram(bytes, "bytes of ready files", { kind: ["document", "image"] }),
  upload_rejected: counter("uploads refused", {
    reason: ["max_documents", "max_size", "max_storage", "type"],
  }),
  attachment_index: counter("documents indexed", { result: ["ok", "failed"] }),
  attachment_index_latency_ms: histogram(ms, "duration of indexing"),
  attachments_pending: gauge("uploads in flight here"),
  attachments_failed: gauge("failed attachment rows"),
  image_inputs_per_turn: histogram(counts, "images of a turn"),
  image_turns: counter("turns with images", { model: name }),
  media_rejected: counter("sends refused for their images", {
    reason: ["too_many_images", "images_disabled", "unsupported_media"],
  }),
  cleanup_completed: counter("provider objects deleted", { resource_type: cleanupResource }),
  cleanup_failed: counter("provider objects given up", { resource_type: cleanupResource }),
  cleanup_retry: counter("cleanup attempts that failed", {
    resource_type: cleanupResource,
    reason: ["rate_limited", "provider_4xx", "provider_5xx", "timeout", "transport", "configuration", "db"],
  }),
  cleanup_backlog: gauge("rows waiting for cleanup", {
    state: ["pending", "failed"],
    resource_type: ["file"],
  }),
  cleanup_vector_store_with_failed_attachments: counter("stores deleted over failed files"),
  cleanup_latency_ms: histogram(ms, "deletion to done", { op: cleanupResource }),
  purge_deleted: counter("chats purged"),
  purge_blocked: counter("chats that could not be purged", {
    reason: [
      "cleanup_event",
      "dead_letter",
      "running_turn",
      "cleanup_pending",
      "cleanup_failed",
      "vector_store",
    ],
  }),
  reconcile_deleted: counter("provider objects without an owner deleted", { kind: name }),
} as const satisfies Record<string, MetricSpec>;

const upstream = {
  audit_emit: counter("audit deliveries", { result: ["ok", "retry", "reject", "skipped"] }),
  audit_redaction_hits: counter("redactions in audit texts", {
    pattern: [
      "pem_private_key",
      "bearer_token",
      "jwt",
      "openai_api_key",
      "aws_access_key_id",
      "azure_api_key",
      "api_key_fields",
      "password_fields",
      "long_base64_like",
    ],
  }),
  policy_refresh: counter("policy loads", { result: ["ok", "invalid", "error"] }),
  usage_event_inconsistent: counter("usage events that disagree with the turn"),
  provider_requests: counter("attempts", { provider: name, endpoint: name }),
  provider_latency_ms: histogram(ms, "duration of an attempt", { provider: name, endpoint: name }),
  provider_errors: counter("failed attempts", { provider: name, status: httpStatus }),
  egress_retries: counter("retries", { provider: name, reason: ["429", "5xx", "transport"] }),
  egress_circuit_open: counter("circuit breakers opened", { provider: name }),
  egress_upstream_latency_ms: histogram(ms, "request to headers", { provider: name, endpoint: name }),
} as const satisfies Record<string, MetricSpec>;

const machinery = {
  outbox_enqueue: counter("events written", { ...kind, result: ["ok", "error"] }),
  outbox_handler: counter("deliveries", {
    ...kind,
    result: ["success", "already_terminal", "retry", "reject"],
  }),
  outbox_handler_duration_ms: histogram(ms, "duration of a handler", kind),
  outbox_delivery_latency_ms: histogram(ms, "event written to acknowledged", kind),
  outbox_backlog: gauge("events waiting", kind),
  outbox_oldest_pending_age_seconds: gauge("age of the oldest event waiting", kind),
  outbox_dead_letter_backlog: gauge("pending dead letters", kind),
  outbox_dead_letter_oldest_age_seconds: gauge("age of the oldest pending dead letter", kind),
  outbox_lease_lost: counter("leases lost", kind),
  outbox_gap_detected: counter("partitions whose claims would have passed over waiting messages"),
  outbox_claimed: counter("messages claimed", kind),
  outbox_acknowledged: counter("messages acknowledged", kind),
  outbox_parked: counter("keys parked", kind),
  db_query_latency_ms: histogram(ms, "duration of a query", { query: name }),
  db_errors: counter("failed queries", { query: name, code: name }),
  db_pool_in_use: gauge("connections in use"),
  db_pool_waiting: gauge("requests waiting for a connection"),
  leader: gauge("1 while holding the lock of the job", { job: name }),
  event_loop_lag_ms: histogram(ms, "delay of a 100 ms timer"),
  http_server_request_duration_ms: histogram(ms, "request received to answer sent", {
    method: ["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "HEAD"],
    route: routeTemplate,
    status: httpStatus,
  }),
  http_server_active_requests: gauge("requests without an answer yet", {
    method: ["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "HEAD"],
    route: routeTemplate,
  }),
} as const satisfies Record<string, MetricSpec>;

/** Every metric this program exports (ops.md §5), without prefix and without the `_total` of counters. */
export const metricTable = {
  ...streaming,
  ...turns,
  ...quota,
  ...retrieval,
  ...files,
  ...upstream,
  ...machinery,
} as const;

export type MetricName = keyof typeof metricTable;

type NamesOf<Type extends MetricSpec["type"]> = {
  [N in MetricName]: (typeof metricTable)[N]["type"] extends Type ? N : never;
}[MetricName];

export type CounterName = NamesOf<"counter">;
export type HistogramName = NamesOf<"histogram">;
export type GaugeName = NamesOf<"gauge">;

/** The labels of a metric; values outside its lists are counted as `other`. */
export type LabelsOf<N extends MetricName> = {
  readonly [L in keyof (typeof metricTable)[N]["labels"]]: string;
};
