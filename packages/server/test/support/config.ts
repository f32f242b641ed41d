import type { Tree } from "../../src/config/tree.ts";

/** A caller the test application knows. */
export interface Caller {
  readonly token: string;
  readonly tenantId: string;
  readonly userId: string;
}

const tenantA = "aaaaaaaa-0000-4000-8000-000000000001";
const tenantB = "bbbbbbbb-0000-4000-8000-000000000002";

/** Two users of one tenant and a user of another. */
export const callers = {
  ann: { token: "token-ann", tenantId: tenantA, userId: "a0000000-0000-4000-8000-00000000000a" },
  amy: { token: "token-amy", tenantId: tenantA, userId: "a0000000-0000-4000-8000-00000000000b" },
  bob: { token: "token-bob", tenantId: tenantB, userId: "b0000000-0000-4000-8000-00000000000c" },
} as const satisfies Record<string, Caller>;

/** A catalog entry; prices of quota.md §15.5, so that its reserves can be read off. */
export const modelEntry = (id: string, more: Tree = {}): Tree => ({
  id,
  provider_model_id: `provider-${id}`,
  provider_id: "sim",
  provider_display_name: "Simulator",
  display_name: id,
  tier: "standard",
  enabled: true,
  context_window: 128_000,
  max_input_tokens: 100_000,
  max_output_tokens: 4_096,
  input_tokens_credit_multiplier_micro: 1_000_000,
  output_tokens_credit_multiplier_micro: 3_000_000,
  max_num_results: 5,
  general_config: {
    type: "",
    available_from: "1970-01-01T00:00:00Z",
    max_file_size_mb: 25,
    api_params: { temperature: 0.7, top_p: 1, frequency_penalty: 0, presence_penalty: 0, stop: [] },
    tool_support: {
      web_search: true,
      file_search: true,
      image_generation: false,
      code_interpreter: true,
      mcp: false,
    },
  },
  ...more,
});

export const premiumEntry = (id: string, more: Tree = {}): Tree =>
  modelEntry(id, {
    tier: "premium",
    max_output_tokens: 8_192,
    input_tokens_credit_multiplier_micro: 3_000_000,
    output_tokens_credit_multiplier_micro: 15_000_000,
    ...more,
  });

/** The configuration tree of a test process: loopback, free ports, no limits a test would run into. */
export const testConfigTree = (options: {
  readonly databaseUrl: string;
  readonly simulatorPort: number;
}): Tree => ({
  server: {
    bind_address: "127.0.0.1:0",
    ops_bind_address: "127.0.0.1:0",
    admin_token: "admin-token-of-tests",
    rate_limit: { rps: 100_000, burst: 100_000, in_flight: 10_000, per_user_rps: 0 },
  },
  internal: { api_token: "internal-token-of-tests" },
  database: {
    mode: "external",
    url: options.databaseUrl,
    migrations: "off",
    max_connections: 10,
  },
  auth: {
    tokens: Object.values(callers).map(({ token, tenantId, userId }) => ({
      token,
      tenant_id: tenantId,
      user_id: userId,
    })),
  },
  client_credentials: { client_id: "mini-chat", client_secret: "not-used" },
  egress: { allow_http_upstream: true },
  providers: {
    sim: {
      kind: "openai_responses",
      host: "127.0.0.1",
      port: options.simulatorPort,
      use_http: true,
      storage_kind: "memory",
    },
  },
  plugins: {
    model_policy: {
      static: {
        model_catalog: [
          modelEntry("standard", { preference: { is_default: true, sort_order: 0 } }),
          premiumEntry("premium"),
        ],
      },
    },
    audit: { type: "none" },
  },
  outbox: { num_partitions: 4, poll_interval_ms: 50 },
  shutdown_ready_delay_secs: 0,
  shutdown_grace_secs: 5,
  log: { level: "debug" },
});
