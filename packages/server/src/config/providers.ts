import { z } from "zod";
import { flag, httpUrl, int, nonBlank, secs, uuid } from "./fields.ts";

const host = () =>
  z
    .string()
    .regex(
      /^(\[[0-9a-fA-F:.]+\]|[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?)$/,
      "must be a host name or address",
    );

// Credentials are references, never values (providers.md §8.4); `env.ts` says how they are resolved.
const upstreamAuth = z.discriminatedUnion("kind", [
  z.strictObject({
    kind: z.literal("apikey"),
    header: nonBlank().default("Authorization"),
    prefix: z.string().default("Bearer "),
    secret_ref: nonBlank(),
  }),
  z.strictObject({
    kind: z.literal("oauth2_client_credentials"),
    token_url: httpUrl(),
    client_id_ref: nonBlank(),
    client_secret_ref: nonBlank(),
    scopes: z.array(nonBlank()).default([]),
  }),
]);

const tenantOverride = z.strictObject({
  host: host().optional(),
  upstream_alias: nonBlank().optional(),
  auth: upstreamAuth.optional(),
});

const provider = z
  .strictObject({
    kind: z.enum(["openai_responses", "openai_chat_completions", "vllm_responses", "anthropic_messages"]),
    host: host(),
    port: z.int().min(1).max(65_535).optional(),
    use_http: flag(false),
    api_path: z.string().startsWith("/").default("/v1/responses"),
    auth: upstreamAuth.optional(),
    storage_kind: z.enum(["openai", "azure", "local", "memory", "none"]),
    storage_backend: nonBlank().max(32).optional(),
    api_version: nonBlank().optional(),
    supports_file_search_filters: flag(true),
    rag_provider: nonBlank().optional(),
    expose_reasoning: flag(false),
    /** Concurrent calls per upstream and per tenant of it; 0 = no cap. */
    limits: z.strictObject({ max_concurrent: int(0, 0), per_tenant_max: int(0, 0) }).prefault({}),
    /** Absent members take the value of `egress`. */
    timeouts: z
      .strictObject({
        connect_timeout_secs: z.int().min(1).max(600).optional(),
        request_timeout_secs: z.int().min(1).max(600).optional(),
        non_streaming_timeout_secs: z.int().min(1).max(600).optional(),
        idle_timeout_secs: z.int().min(1).max(3_600).optional(),
        upload_timeout_secs: z.int().min(1).max(3_600).optional(),
      })
      .prefault({}),
    /** providers.md §8.3: failures in a row that open it, how long, probes then, successes that close it. */
    breaker: z
      .strictObject({
        failure_threshold: int(5, 1),
        open_secs: secs(30, 1),
        half_open_probes: int(3, 1),
        success_threshold: int(3, 1),
      })
      .prefault({}),
    tenant_overrides: z.record(uuid(), tenantOverride).default({}),
  })
  .transform((entry) => ({ ...entry, port: entry.port ?? (entry.use_http ? 80 : 443) }));

/** Upstreams by `provider_id` (providers.md §10). */
export const providersSection = z
  .record(nonBlank().max(64), provider)
  .transform((entries) =>
    Object.fromEntries(
      Object.entries(entries).map(([id, entry]) => [
        id,
        { ...entry, storage_backend: entry.storage_backend ?? id, rag_provider: entry.rag_provider ?? id },
      ]),
    ),
  )
  .prefault({
    openai: {
      kind: "openai_responses",
      host: "api.openai.com",
      storage_kind: "openai",
      auth: { kind: "apikey", secret_ref: "openai-key" },
    },
  });

/** Timers and sizes of calls to providers (providers.md §8.2). */
export const egressSection = z
  .strictObject({
    connect_timeout_secs: secs(10, 1, 600),
    request_timeout_secs: secs(30, 1, 600),
    non_streaming_timeout_secs: secs(50, 1, 600),
    idle_timeout_secs: secs(120, 1, 3_600),
    upload_timeout_secs: secs(300, 1, 3_600),
    max_body_mb: int(100, 1),
    allow_http_upstream: flag(false),
  })
  .prefault({});
