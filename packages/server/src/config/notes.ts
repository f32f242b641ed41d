/** What a key does; `valid` and `fallback` where the schema cannot say them. */
export interface KeyNote {
  readonly effect: string;
  readonly valid?: string;
  readonly fallback?: string;
}

const hostPort = "host:port";
const nonBlank = "not blank";
const httpUrl = "http or https URL without credentials";
const postgresUrl = "`postgres://…`";
const uuid = "UUID";
const queue =
  "letters, digits, `.` `_` `-`; first and last a letter or digit; no name twice; no change while messages wait under the old one";

const budget = (what: string): string => `${what}, for reserves and estimates`;
const egressTimer = "that timer for this provider alone";

/** The effect of every key, for `docs/configuration.md`. A test keeps it complete. */
export const keyNotes: Readonly<Record<string, string | KeyNote | undefined>> = {
  role: "`all` runs everything; `api` the API and turns; `worker` the outbox, the jobs and the ops listener",
  url_prefix: {
    effect: "prefix of every public route",
    valid: "empty, or `/…` without a final `/`, of letters, digits and `._~-`",
  },

  "server.bind_address": { effect: "public listener; port 0 takes a free one", valid: hostPort },
  "server.ops_bind_address": {
    effect:
      "metrics, admin, policy notify, health; never make it public. `null`: health on the public listener only, which a `worker` has not, the rest off",
    valid: `${hostPort} or \`null\``,
  },
  "server.admin_token": {
    effect: "bearer token of the admin routes; unset: they answer 404",
    valid: "visible ASCII, ≥ 16 chars",
  },
  "server.body_limit_bytes": "larger JSON bodies are refused with 413; uploads have their own limit",
  "server.request_timeout_secs": "time to the response headers, then 504; not for streams and uploads",
  "server.rate_limit.rps": "requests per second of one route in one process; over it 429",
  "server.rate_limit.burst": "how many may come at once before `rps` counts",
  "server.rate_limit.in_flight": "requests of one route being served at once; over it 503",
  "server.rate_limit.per_user_rps": "requests per second of one user; 0 = off",
  "server.rate_limit.per_user_burst": "how many of one user may come at once; 0 = off",
  "server.cors.enabled": "answer browsers of other origins",
  "server.cors.allowed_origins": { effect: "which origins", valid: "`*` only without `allow_credentials`" },
  "server.cors.allow_credentials": "let browsers send credentials",
  "server.cors.max_age_secs": "how long a browser may remember a preflight",
  "server.docs_enabled": "OpenAPI document and its viewer",
  "server.web_enabled": "the built-in page",
  "page.title": { effect: "name of the page", valid: "not blank, ≤ 60 chars" },
  "page.frame_ancestors": {
    effect: "sites that may show the page in a frame and hand it a token (embedding.md); empty = none",
    valid: "`self` or an origin",
  },
  "internal.api_token": {
    effect: "bearer token of the policy notification; unset: it answers 404",
    valid: "visible ASCII, ≥ 16 chars",
  },

  "database.mode": "`embedded` starts its own PostgreSQL for one process; `external` connects to `url`",
  "database.data_dir": {
    effect: "`embedded`: directory of the data, locked by one process",
    valid: nonBlank,
  },
  "database.url": { effect: "required with `external`", valid: postgresUrl },
  "database.direct_url": {
    effect: "past a transaction-mode pooler: migrations, LISTEN and advisory locks",
    valid: postgresUrl,
  },
  "database.max_connections":
    "size of the pool; best ≥ `outbox.processors` + 5. One more connection is direct",
  "database.acquire_timeout_secs": "wait for a free connection, then 503",
  "database.statement_timeout_ms": "PostgreSQL's `statement_timeout`",
  "database.lock_timeout_ms": "PostgreSQL's `lock_timeout`",
  "database.idle_in_transaction_timeout_ms": "PostgreSQL's `idle_in_transaction_session_timeout`",
  "database.migrations": {
    effect: "at start: apply what is missing, stop when something is, or do not look",
    fallback: "`auto` embedded, `check` external",
  },
  "database.row_level_security":
    "no effect yet: every statement names the tenant, no policy of PostgreSQL checks it once more",

  "auth.disabled": "every request is `auth.subject`; only on a loopback `server.bind_address`",
  "auth.allow_public_disabled": "allow `auth.disabled` on any address",
  "auth.subject.tenant_id": { effect: "tenant of every request with `auth.disabled`", valid: uuid },
  "auth.subject.user_id": { effect: "user of every request with `auth.disabled`", valid: uuid },
  "auth.mode": "`static`: the tokens below; `jwt`: tokens of an issuer",
  "auth.tokens[].token": { effect: "a bearer token", valid: "visible ASCII, no token twice" },
  "auth.tokens[].tenant_id": { effect: "whose tenant it is", valid: uuid },
  "auth.tokens[].user_id": { effect: "whose user it is", valid: uuid },
  "auth.tokens[].scopes": {
    effect: "what it may do",
    valid: "`*`, `ai:mini_chat`, `ai:mini_chat:read`, `ai:mini_chat:write`",
  },
  "auth.jwt.issuer": { effect: "the `iss` of valid tokens; required with `jwt`", valid: nonBlank },
  "auth.jwt.audience": { effect: "the `aud` of valid tokens; required with `jwt`", valid: nonBlank },
  "auth.jwt.jwks_url": { effect: "where the issuer publishes its keys; required with `jwt`", valid: httpUrl },
  "auth.jwt.tenant_claim": { effect: "claim with the tenant's UUID", valid: nonBlank },
  "auth.jwt.user_claim": { effect: "claim with the user's UUID", valid: nonBlank },
  "auth.jwt.scope_claim": {
    effect: "claim with the scopes, a text or a list; a token without it is not limited",
    valid: nonBlank,
  },
  "authz.mode": "`static`: everybody's own chats; `http`: ask a policy decision point",
  "authz.url": { effect: "the decision point; required with `http`", valid: httpUrl },
  "authz.timeout_ms": "wait for its answer; then the request fails with 500",
  "client_credentials.client_id": {
    effect:
      "service identity of background provider calls, none of which uses one yet; required unless `auth.disabled`",
    valid: nonBlank,
  },
  "client_credentials.client_secret": {
    effect: "its secret; required unless `auth.disabled`",
    valid: nonBlank,
  },
  "license.mode": "`static`: the list below; `plugin`: the policy plugin, asked once a minute per user",
  "license.tenants": { effect: "tenants that may use the service", valid: "UUIDs, or `*` for all" },

  shutdown_grace_secs: "how long running answers and uploads may finish after SIGTERM",
  worker_stop_timeout_secs: "how long outbox handlers may finish",
  shutdown_ready_delay_secs: "time between not being ready and refusing work, for balancers to notice",
  instance_lease_secs:
    "a process silent for this long is dead; it reports every third of it. Nobody is taken for dead before this time, and that of a report that hangs, has passed after an outage of the database or the start of the only process",
  "log.level": "least severity that is logged",
  "log.format": "one JSON object per line, or lines for people",
  "metrics.enabled": "serve `/metrics` on the ops listener",
  "metrics.prefix": {
    effect: "first part of every metric's name",
    valid: "`[a-z_][a-z0-9_]*`",
    fallback: "`mini_chat`",
  },
  "tracing.otlp_endpoint": {
    effect: "where spans are to be sent; there are none yet, so it has no effect",
    valid: `${httpUrl} or \`null\``,
  },
  "tracing.sample_ratio": "part of the requests that is traced",

  "streaming.sse_channel_capacity": "events held for a client that reads slowly",
  "streaming.sse_ping_interval_seconds": "a silent stream gets a ping this often",
  "streaming.max_output_tokens": "upper limit of every answer; a model's own may be lower",
  "streaming.web_search_context_size": "accepted without effect: the catalog entry decides",
  "streaming.slow_client_timeout_secs": "a client that reads nothing for this long is gone",
  "streaming.turn_max_duration_secs": "an answer that takes longer is ended",
  "streaming.max_active_streams": "streams per process, over it 503; 0 = off",
  "resume.detached_max_secs": "how long an answer goes on without a client that asked for it to",
  "resume.retention_secs": "how long the events of an answer can be replayed",

  "quota.overshoot_tolerance_factor": {
    effect: "tokens beyond the reserve that are still charged exactly",
    valid: "1–1.5, at most 4 decimals",
  },
  "quota.warning_threshold_pct": "quota status warns from this part on",
  "quota.web_search_max_calls_per_message": "web searches in one answer",
  "quota.web_search_daily_quota": "web searches of one user and day",
  "quota.code_interpreter_max_calls_per_message": "code runs in one answer",
  "quota.code_interpreter_daily_quota": "code runs of one user and day",
  "quota.image_inputs_daily_quota": "images of one user and day sent to models",
  "quota.image_upload_bytes_daily_quota": "bytes of images one user may upload a day; `null` = no limit",
  "estimation_budgets.bytes_per_token_conservative": budget("bytes of text per token"),
  "estimation_budgets.fixed_overhead_tokens": budget("tokens of every request"),
  "estimation_budgets.safety_margin_pct": budget("per cent added to text"),
  "estimation_budgets.image_token_budget": budget("tokens per image"),
  "estimation_budgets.tool_surcharge_tokens": budget("tokens when file search is offered"),
  "estimation_budgets.web_search_surcharge_tokens": budget("tokens when web search is offered"),
  "estimation_budgets.code_interpreter_surcharge_tokens": budget("tokens when code runs are offered"),
  "estimation_budgets.minimal_generation_floor": {
    effect: "output tokens an estimated charge has at least",
    valid: "≥ 1, ≤ `streaming.max_output_tokens`",
  },
  "context.recent_messages_limit": "earlier messages the model sees besides the summary",
  "context.web_search_guard": "instruction added with web search; `null` = built in, empty = none",
  "context.file_search_guard": "instruction added with file search; `null` = built in, empty = none",
  "context.untrusted_content_guard": "instruction about foreign content; `null` = built in, empty = none",

  "rag.max_documents_per_chat": "documents in one chat",
  "rag.max_total_upload_mb_per_chat": "MiB of files in one chat",
  "rag.uploaded_file_max_size_kb": "KiB of one document; the model's limit may be lower",
  "rag.uploaded_image_max_size_kb": "KiB of one image; the model's limit may be lower",
  "rag.allow_csv_upload": "accept CSV files",
  "rag.max_images_per_message": "images in one message",
  "rag.max_concurrent_uploads": "uploads of one process at once; over it 503",
  "rag.max_concurrent_uploads_per_user": "uploads of one user at once",
  "rag.index_wait_secs": "wait for a document to be searchable; 0 = do not wait",
  "thumbnail.width": "pixels of a preview",
  "thumbnail.height": "pixels of a preview",
  "thumbnail.max_bytes": "a larger preview is not kept",
  "thumbnail.max_pixels": "larger images get no preview",
  "thumbnail.max_decode_bytes": "larger files, and images that decode to more bytes, get no preview",
  "doc_summary.enabled": "summarise uploaded documents",
  "audit.include_content": "let audit events carry message texts, redacted",

  "plugins.model_policy.type": {
    effect: "where models, limits and switches come from: this file, a policy service, a registered plugin",
    valid: "`static`, `http` or a registered name",
  },
  "plugins.model_policy.static.model_catalog": {
    effect: "the models, see below; required with `static`, may be `[]`",
    valid: "catalog entries",
  },
  "plugins.model_policy.static.kill_switches.force_standard_tier": "premium models are not used",
  "plugins.model_policy.static.kill_switches.disable_premium_tier": "premium models are not used",
  "plugins.model_policy.static.kill_switches.disable_web_search": "messages that ask for web search get 400",
  "plugins.model_policy.static.kill_switches.disable_file_search": "file search is not offered",
  "plugins.model_policy.static.kill_switches.disable_images": "messages with images and their upload get 400",
  "plugins.model_policy.static.kill_switches.disable_code_interpreter": "code runs are not offered",
  "plugins.model_policy.static.default_standard_limits.limit_daily_credits_micro":
    "micro-credits of one user and day, all models; 0 = closed",
  "plugins.model_policy.static.default_standard_limits.limit_monthly_credits_micro":
    "micro-credits of one user and month, all models",
  "plugins.model_policy.static.default_premium_limits.limit_daily_credits_micro":
    "micro-credits of one user and day, premium models",
  "plugins.model_policy.static.default_premium_limits.limit_monthly_credits_micro":
    "micro-credits of one user and month, premium models",
  "plugins.model_policy.http.base_url": {
    effect: "the policy service; required with `http`",
    valid: httpUrl,
  },
  "plugins.model_policy.http.auth.header": { effect: "header with its credential", valid: nonBlank },
  "plugins.model_policy.http.auth.value_env": {
    effect: "environment variable that holds the header's value; unset: none is sent",
    valid: nonBlank,
  },
  "plugins.model_policy.http.retries": "repeated reads after a network error or a 5xx",
  "plugins.usage.type": "where usage events go: the policy plugin or a sink (publishers.md)",
  "plugins.usage.path": { effect: "`file`: one JSON object per line", valid: nonBlank },
  "plugins.usage.max_file_bytes": "`file`: set aside before it grows beyond this; 0 = never",
  "plugins.usage.url": { effect: "`http`: gets one POST per event", valid: httpUrl },
  "plugins.usage.token": "`http`: sent as a bearer token",
  "plugins.usage.timeout_secs": "`http`: wait for the answer",
  "plugins.usage.secret": { effect: "`http`: signs every request (HMAC-SHA256)", valid: "≥ 16 chars" },
  "plugins.usage.database_url": {
    effect: "`postgres`: another database than the server's own",
    valid: "URL postgres:// or postgresql://",
  },
  "plugins.usage.module": { effect: "`module`: a file whose default export makes a sink", valid: nonBlank },
  "plugins.usage.options": "`module`: handed to it as it is",
  "plugins.audit.type": {
    effect: "where audit events go",
    valid: "`log`, `none`, `file`, `http`, `postgres`, `module` or a registered name",
  },
  "plugins.audit.enabled": "`false`: audit events are dropped",
  "plugins.audit.path": { effect: "`file`: one JSON object per line", valid: nonBlank },
  "plugins.audit.max_file_bytes": "`file`: set aside before it grows beyond this; 0 = never",
  "plugins.audit.url": { effect: "`http`: gets one POST per event", valid: httpUrl },
  "plugins.audit.token": "`http`: sent as a bearer token",
  "plugins.audit.timeout_secs": "`http`: wait for the answer",
  "plugins.audit.secret": { effect: "`http`: signs every request (HMAC-SHA256)", valid: "≥ 16 chars" },
  "plugins.audit.database_url": {
    effect: "`postgres`: another database than the server's own",
    valid: "URL postgres:// or postgresql://",
  },
  "plugins.audit.module": { effect: "`module`: a file whose default export makes a sink", valid: nonBlank },
  "plugins.audit.options": "`module`: handed to it as it is",
  "policy_cache.version_ttl_secs": {
    effect: "age at which a tenant's policy version is refreshed",
    valid: "≥ 1, ≤ `max_stale_secs`",
  },
  "policy_cache.snapshot_capacity": "policy versions held in memory",
  "policy_cache.limits_capacity": "users whose limits are held in memory",
  "policy_cache.limits_ttl_secs": "age at which a user's limits are read again",
  "policy_cache.max_stale_secs": "age up to which policy is used while its source fails; then 503",
  "policy_cache.plugin_timeout_ms": "wait for the policy plugin",
  "policy_cache.reconcile_interval_secs": "how often recently seen tenants are looked at again",

  "providers.<id>.kind": "the API it speaks",
  "providers.<id>.host": { effect: "host name or address", valid: nonBlank },
  "providers.<id>.port": { effect: "port", fallback: "`443`, with `use_http` `80`" },
  "providers.<id>.use_http": "without TLS; needs `egress.allow_http_upstream`",
  "providers.<id>.api_path": {
    effect: "path of model calls",
    valid: "starts with `/`; may hold `{model}` and a query",
  },
  "providers.<id>.auth.kind": { effect: "without `auth` no credentials are sent", fallback: "–" },
  "providers.<id>.auth.header": { effect: "`apikey`: header of the key", valid: nonBlank },
  "providers.<id>.auth.prefix": "`apikey`: what comes before the key",
  "providers.<id>.auth.secret_ref": { effect: "`apikey`: reference of the key", valid: nonBlank },
  "providers.<id>.auth.token_url": { effect: "`oauth2_client_credentials`: token endpoint", valid: httpUrl },
  "providers.<id>.auth.client_id_ref": {
    effect: "`oauth2_client_credentials`: reference of the id",
    valid: nonBlank,
  },
  "providers.<id>.auth.client_secret_ref": {
    effect: "`oauth2_client_credentials`: reference of the secret",
    valid: nonBlank,
  },
  "providers.<id>.auth.scopes": "`oauth2_client_credentials`: scopes asked for",
  "providers.<id>.storage_kind":
    "how files are stored there; `local`: in our database (retrieval.md); `memory` is for tests, `none` stores none",
  "providers.<id>.storage_backend": {
    effect: "label on stored rows: files stay with it",
    fallback: "`<id>`",
  },
  "providers.<id>.api_version": { effect: "required with `azure`", valid: nonBlank },
  "providers.<id>.supports_file_search_filters": "whether file search can be limited to some files",
  "providers.<id>.rag_provider": {
    effect: "provider that stores the files of this one's chats",
    valid: "a provider that stores files",
    fallback: "`<id>`",
  },
  "providers.<id>.expose_reasoning":
    "stream the summaries of its reasoning that a model sends, as deltas of the type `reasoning`, to every client; they are no part of the stored answer",
  "providers.<id>.limits.max_concurrent": "calls at once per process; 0 = no limit",
  "providers.<id>.limits.per_tenant_max": "calls of one tenant at once per process; 0 = no limit",
  "providers.<id>.timeouts.connect_timeout_secs": { effect: egressTimer, fallback: "`egress`" },
  "providers.<id>.timeouts.request_timeout_secs": { effect: egressTimer, fallback: "`egress`" },
  "providers.<id>.timeouts.non_streaming_timeout_secs": { effect: egressTimer, fallback: "`egress`" },
  "providers.<id>.timeouts.idle_timeout_secs": { effect: egressTimer, fallback: "`egress`" },
  "providers.<id>.timeouts.upload_timeout_secs": { effect: egressTimer, fallback: "`egress`" },
  "providers.<id>.breaker.failure_threshold": "failures in a row after which it is not called",
  "providers.<id>.breaker.open_secs": "for how long",
  "providers.<id>.breaker.half_open_probes": "calls that then try it",
  "providers.<id>.breaker.success_threshold": "successes after which all are let through again",
  "providers.<id>.tenant_overrides.<tenant_id>.host": {
    effect: "another host for this tenant",
    valid: nonBlank,
  },
  "providers.<id>.tenant_overrides.<tenant_id>.upstream_alias": {
    effect: "name of this tenant's upstream; other credentials need it or a `host`",
    valid: nonBlank,
  },
  "egress.connect_timeout_secs": "wait for a connection to a provider",
  "egress.request_timeout_secs": "wait for the response headers",
  "egress.non_streaming_timeout_secs": "wait for a whole answer that is not streamed",
  "egress.idle_timeout_secs": "longest silence in a stream; best below `orphan_watchdog.timeout_secs`",
  "egress.upload_timeout_secs":
    "wait for a file upload; best below `cleanup_worker.stale_in_progress_timeout_secs`",
  "egress.max_body_mb": "MiB of the largest answer that is read",
  "egress.allow_http_upstream": "allow providers without TLS",
  "retention.chat_grace_days": "days from a chat's deletion to its purge; 0 = never",
  "retention.quota_days": "days quota counters are kept",
  "retention.policy_days": "days policy versions are kept",

  "outbox.num_partitions": {
    effect: "ordered queues side by side; must equal what the database was started with",
    valid: "power of two, 1–64",
  },
  "outbox.queue_name": { effect: "usage events", valid: queue },
  "outbox.cleanup_queue_name": { effect: "removed attachments", valid: queue },
  "outbox.chat_cleanup_queue_name": { effect: "removed chats", valid: queue },
  "outbox.thread_summary_queue_name": { effect: "summaries due", valid: queue },
  "outbox.audit_queue_name": { effect: "audit events", valid: queue },
  "outbox.doc_summary_queue_name": { effect: "document summaries due", valid: queue },
  "outbox.poll_interval_ms": "how often work is looked for when nothing wakes the loop",
  "outbox.processors": "partitions of one process handled at once",
  "outbox.batch_size": "messages taken from a partition at once",
  "outbox.claim_partitions": "partitions claimed by one statement",
  "outbox.retry_base_ms": {
    effect: "first wait after a failure; it doubles",
    valid: "≥ 1, ≤ `retry_max_ms`",
  },
  "outbox.retry_max_ms": "longest wait after a failure",
  "outbox.notify": "wake other processes by LISTEN; the embedded database needs none",
  "outbox.dead_letter_retention_days": "days resolved dead letters are kept",
  "orphan_watchdog.enabled": "end turns whose process is gone",
  "orphan_watchdog.scan_interval_secs": "how often it looks",
  "orphan_watchdog.timeout_secs": "a turn without progress for this long is an orphan",
  "thread_summary_worker.enabled": "summarise long chats; `false`: nothing is enqueued",
  "thread_summary_worker.compression_threshold_pct": "part of the context window from which a summary is due",
  "thread_summary_worker.max_attempts": "attempts for one summary",
  "thread_summary_worker.claim_timeout_secs": "time for one summary: the lease of its queue",
  "thread_summary_worker.summary_model_id": "catalog id of the model that summarises; empty = `gpt-4.1-mini`",
  "thread_summary_worker.summary_system_prompt": "its instructions; `null` = built in",
  "thread_summary_worker.message_content_limit": "characters of each message it sees; 0 = all",
  "thread_summary_worker.keep_recent_messages": "latest messages that are not summarised",
  "cleanup_worker.enabled": "remove files at providers; `false`: the events are kept and wait",
  "cleanup_worker.max_attempts": "attempts for one file",
  "cleanup_worker.reconcile_interval_secs": "how often forgotten removals are looked for",
  "cleanup_worker.stale_in_progress_timeout_secs":
    "a removal pending and untouched for this long is enqueued again",
  "cleanup_worker.batch_size": "removals enqueued again at once",
  "reconcile.enabled": "look at providers for objects nobody owns, and remove them",
  "reconcile.grace_secs": "age from which they are removed",
  "reconcile.dry_run": "only log what would be removed",
};
