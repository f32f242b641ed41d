/** The metrics of ops.md §5, copied by hand: name, type, labels. */
const listed = `
stream_started C provider model
stream_completed C provider model
stream_incomplete C provider model reason=max_tokens|content_filter|other
stream_failed C provider model error_code
stream_disconnected C stage=before_first_token|mid_stream
stream_replay C reason=idempotent_completed
active_streams G
ttft_provider_ms H provider model
ttft_overhead_ms H provider model
stream_total_latency_ms H provider model
preflight_latency_ms H decision
cancel_requested C trigger
cancel_effective C trigger
time_to_abort_ms H trigger
time_from_ui_disconnect_to_cancel_ms H trigger
tokens_after_cancel H trigger
cancel_orphan C
streams_aborted C trigger=client_disconnect|orphan_timeout|internal_abort|user_stop
turn_mutation C op result=ok|not_latest|invalid_state|forbidden|generation_in_progress|error
turn_mutation_latency_ms H op
finalization_latency_ms H
finalization_cas_lost C caller
unknown_error_code C
orphan_detected C reason=stale_progress|dead_owner
orphan_finalized C reason=stale_progress|dead_owner
orphan_scan_duration_seconds H
quota_preflight C decision model tier
quota_preflight_v2 C kind=text|image decision model tier
quota_tier_downgrade C from_tier to_tier
quota_reserve C period
quota_commit C period
quota_overshoot C period
quota_negative C period
quota_image_commit C period
quota_reserve_anomaly C period
quota_overshoot_exceeded C
credits_overflow C
quota_estimated_tokens H
quota_actual_tokens H
quota_overshoot_tokens H
tool_calls C tool phase=start|done|error
tool_call_limited C tool
code_interpreter_calls C model
file_search_latency_ms H provider model
web_search_latency_ms H provider model
web_search_disabled C
code_interpreter_disabled C
citations_count H
citations_by_source C source=file|web
citations_dropped C reason=unknown|deleted|invalid
retrieval_latency_ms H provider
retrieval_chunks_returned H
retrieval_zero_hit C
context_truncation C truncated_item=thread_summary|recent_messages|doc_summary
thread_summary_trigger C result=scheduled|not_needed
thread_summary_execution C result=success|provider_error|timeout|retry|empty_summary
thread_summary_cas_conflicts C
summary_fallback C
attachment_summary C result=ok|failed|skipped
attachment_upload C kind=document|image result=ok|file_too_large|unsupported_type|provider_error|storage_limit_exceeded|concurrency_limit
attachment_upload_bytes H kind=document|image
upload_rejected C reason=max_documents|max_size|max_storage|type
attachment_index C result=ok|failed
attachment_index_latency_ms H
attachments_pending G
attachments_failed G
image_inputs_per_turn H
image_turns C model
media_rejected C reason=too_many_images|images_disabled|unsupported_media
cleanup_completed C resource_type=file|vector_store
cleanup_failed C resource_type=file|vector_store
cleanup_retry C resource_type=file|vector_store reason=rate_limited|provider_4xx|provider_5xx|timeout|transport|configuration|db
cleanup_backlog G state=pending|failed resource_type=file
cleanup_vector_store_with_failed_attachments C
cleanup_latency_ms H op=file|vector_store
purge_deleted C
purge_blocked C reason
reconcile_deleted C kind
audit_emit C result=ok|retry|reject|skipped
audit_redaction_hits C pattern=pem_private_key|bearer_token|jwt|openai_api_key|aws_access_key_id|azure_api_key|api_key_fields|password_fields|long_base64_like
policy_refresh C result=ok|invalid|error
usage_event_inconsistent C
provider_requests C provider endpoint
provider_latency_ms H provider endpoint
provider_errors C provider status
egress_retries C provider reason=429|5xx|transport
egress_circuit_open C provider
egress_upstream_latency_ms H provider endpoint
outbox_enqueue C kind result=ok|error
outbox_handler C kind result=success|already_terminal|retry|reject
outbox_handler_duration_ms H kind
outbox_delivery_latency_ms H kind
outbox_backlog G kind
outbox_oldest_pending_age_seconds G kind
outbox_dead_letter_backlog G kind
outbox_dead_letter_oldest_age_seconds G kind
outbox_lease_lost C kind
outbox_gap_detected C
outbox_claimed C kind
outbox_acknowledged C kind
outbox_parked C kind
db_query_latency_ms H query
db_errors C query code
db_pool_in_use G
db_pool_waiting G
leader G job
event_loop_lag_ms H
http_server_request_duration_ms H method route status
http_server_active_requests G method route`;

/** Values of labels that mean the same wherever they appear; the rest is named with its metric. */
const common: Readonly<Record<string, readonly string[] | RegExp>> = {
  provider: ["sim"],
  model: ["standard", "premium"],
  tier: ["standard", "premium"],
  from_tier: ["standard", "premium"],
  to_tier: ["standard", "premium"],
  decision: ["allow", "downgrade", "reject"],
  period: ["daily", "monthly"],
  trigger: ["user_stop", "disconnect", "timeout", "shutdown", "chat_deleted"],
  op: ["retry", "edit", "delete"],
  tool: ["file_search", "web_search", "code_interpreter", "file_load"],
  kind: ["usage", "attachment_cleanup", "chat_cleanup", "thread_summary", "audit", "doc_summary"],
  error_code: [
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
  ],
  endpoint: [
    "responses_stream",
    "responses",
    "files",
    "file_delete",
    "vector_store_create",
    "vector_store_add",
    "vector_store_remove",
    "vector_store_delete",
    "vector_store_poll",
    "vector_store_search",
    "list",
  ],
  // A client may send any; the other labels are ours, so `other` in them is a fault.
  method: ["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "HEAD", "other"],
  status: /^([1-5]\d\d|timeout|transport|stream)$/,
  code: /^([0-9A-Z]{2}|none)$/,
  query: /^[a-z0-9_]+$/,
  caller: /^[a-z_]+$/,
  job: /^[a-z_]+$/,
  reason: /^[a-z_]+$/,
  route: /^(none|\/[a-z0-9_/:.]*)$/,
};

export interface ListedMetric {
  readonly name: string;
  readonly type: "counter" | "gauge" | "histogram";
  readonly labels: Readonly<Record<string, readonly string[] | RegExp>>;
}

const types = { C: "counter", G: "gauge", H: "histogram" } as const;

/** Metrics by the name they are exported with, for the prefix `mini_chat`. */
export const listedMetrics: ReadonlyMap<string, ListedMetric> = new Map(
  listed
    .trim()
    .split("\n")
    .map((line): [string, ListedMetric] => {
      const [name = "", type = "C", ...labels] = line.split(" ");
      const exported = `mini_chat_${name}${type === "C" ? "_total" : ""}`;
      const rules = labels.map((label): [string, readonly string[] | RegExp] => {
        const [key = "", values] = label.split("=");
        const rule = values === undefined ? common[key] : values.split("|");
        if (rule === undefined) throw new Error(`${name} has a label without values: ${key}`);
        return [key, rule];
      });
      return [exported, { name, type: types[type as keyof typeof types], labels: Object.fromEntries(rules) }];
    }),
);

export interface Sample {
  readonly metric: string;
  readonly labels: Readonly<Record<string, string>>;
  readonly value: number;
}

/** The samples of a scrape; of histograms only their counts. */
export const readSamples = (scrape: string): readonly Sample[] =>
  scrape.split("\n").flatMap((line) => {
    const match = /^([a-z0-9_]+?)(_bucket|_sum|_count)?(?:\{(.*)\})? (\S+)$/.exec(line);
    if (match === null || match[2] === "_bucket" || match[2] === "_sum") return [];
    const [, metric = "", , labels = "", value] = match;
    const pairs = [...labels.matchAll(/(\w+)="((?:[^"\\]|\\.)*)"/g)].map(([, key = "", text = ""]) => [
      key,
      text,
    ]);
    return [{ metric, labels: Object.fromEntries(pairs), value: Number(value) }];
  });

/** What of a scrape ops.md §5 does not list. */
export const unlisted = (scrape: string): readonly string[] => {
  const faults = new Set<string>();
  for (const [, name = "", type] of scrape.matchAll(/^# TYPE (\S+) (\S+)$/gm)) {
    if (listedMetrics.get(name)?.type !== type) faults.add(`${name} as ${type}`);
  }
  for (const { metric, labels } of readSamples(scrape)) {
    const rules = listedMetrics.get(metric)?.labels ?? {};
    if (Object.keys(labels).toSorted().join() !== Object.keys(rules).toSorted().join()) {
      faults.add(`${metric} with labels ${Object.keys(labels).join()}`);
    }
    for (const [label, value] of Object.entries(labels)) {
      const rule = rules[label] ?? [];
      const fits = rule instanceof RegExp ? rule.test(value) && value !== "other" : rule.includes(value);
      if (!fits) faults.add(`${metric} ${label}=${value}`);
    }
  }
  return [...faults];
};
