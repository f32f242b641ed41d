import type { Config } from "./document.ts";
import { isLoopback, parseHostPort } from "./fields.ts";

/** What is wrong with one key, named in full (`database.max_connections`). */
export interface Problem {
  readonly key: string;
  readonly message: string;
}

/** The findings of the rules between keys: problems stop the start, warnings do not. */
export interface Findings {
  readonly problems: readonly Problem[];
  readonly warnings: readonly Problem[];
}

/** How a message about a reference to an unconfigured provider begins. */
export const UNKNOWN_PROVIDER = "names no configured provider";

/** The bearer token `npm start` accepts. */
export const DEVELOPMENT_TOKEN = "dev-token";

type Rule = (config: Config) => Problem[];

const unless = (holds: boolean, key: string, message: string): Problem[] => (holds ? [] : [{ key, message }]);

const queueNames: Rule = ({ outbox }) => {
  const keys = [
    "queue_name",
    "cleanup_queue_name",
    "chat_cleanup_queue_name",
    "thread_summary_queue_name",
    "audit_queue_name",
    "doc_summary_queue_name",
  ] as const;
  return keys.flatMap((key, at) => {
    const twin = keys.slice(0, at).find((other) => outbox[other] === outbox[key]);
    return unless(twin === undefined, `outbox.${key}`, `must differ from outbox.${twin}`);
  });
};

const ranges: Rule = (config) => [
  ...unless(
    config.estimation_budgets.minimal_generation_floor <= config.streaming.max_output_tokens,
    "estimation_budgets.minimal_generation_floor",
    "must not exceed streaming.max_output_tokens",
  ),
  ...unless(
    config.outbox.retry_base_ms <= config.outbox.retry_max_ms,
    "outbox.retry_base_ms",
    "must not exceed outbox.retry_max_ms",
  ),
  ...unless(
    config.policy_cache.version_ttl_secs <= config.policy_cache.max_stale_secs,
    "policy_cache.version_ttl_secs",
    "must not exceed policy_cache.max_stale_secs",
  ),
];

const listeners: Rule = ({ server }) =>
  unless(
    !(server.cors.allow_credentials && server.cors.allowed_origins.includes("*")),
    "server.cors.allowed_origins",
    "'*' cannot be combined with server.cors.allow_credentials",
  );

const database: Rule = ({ database }) =>
  unless(
    database.mode === "embedded" || database.url !== undefined,
    "database.url",
    "is required with database.mode 'external'",
  );

const identity: Rule = ({ auth, authz, server, client_credentials }) => {
  const problems = unless(
    authz.mode === "static" || authz.url !== undefined,
    "authz.url",
    "is required with authz.mode 'http'",
  );
  if (auth.disabled) {
    const loopback = isLoopback(parseHostPort(server.bind_address)?.host ?? "");
    return problems.concat(
      unless(
        loopback || auth.allow_public_disabled,
        "auth.disabled",
        "needs a loopback server.bind_address, or auth.allow_public_disabled",
      ),
    );
  }
  for (const key of ["client_id", "client_secret"] as const) {
    problems.push(
      ...unless(
        client_credentials[key] !== undefined,
        `client_credentials.${key}`,
        "is required unless auth.disabled",
      ),
    );
  }
  if (auth.mode === "jwt") {
    for (const key of ["issuer", "audience", "jwks_url"] as const) {
      problems.push(
        ...unless(auth.jwt[key] !== undefined, `auth.jwt.${key}`, "is required with auth.mode 'jwt'"),
      );
    }
  }
  return problems.concat(repeatedTokens(auth.tokens));
};

const repeatedTokens = (tokens: Config["auth"]["tokens"]): Problem[] => {
  const seen = new Set<string>();
  return tokens.flatMap(({ token }, at) => {
    const text = token.reveal();
    const repeated = seen.has(text);
    seen.add(text);
    return unless(!repeated, `auth.tokens[${at}].token`, "is used twice");
  });
};

const plugins: Rule = ({ plugins }) => {
  const { model_policy: policy } = plugins;
  const problems = [
    ...unless(
      policy.type !== "static" || policy.static.model_catalog !== undefined,
      "plugins.model_policy.static.model_catalog",
      "is required with plugins.model_policy.type 'static'; it may be []",
    ),
    ...unless(
      policy.type !== "http" || policy.http.base_url !== undefined,
      "plugins.model_policy.http.base_url",
      "is required with plugins.model_policy.type 'http'",
    ),
  ];
  for (const name of ["usage", "audit"] as const) {
    const sink = plugins[name];
    problems.push(
      ...unless(
        sink.type !== "file" || sink.path !== undefined,
        `plugins.${name}.path`,
        `is required with plugins.${name}.type 'file'`,
      ),
      ...unless(
        sink.type !== "http" || sink.url !== undefined,
        `plugins.${name}.url`,
        `is required with plugins.${name}.type 'http'`,
      ),
      ...unless(
        sink.type !== "module" || sink.module !== undefined,
        `plugins.${name}.module`,
        `is required with plugins.${name}.type 'module'`,
      ),
    );
  }
  return problems;
};

const providers: Rule = (config) =>
  Object.entries(config.providers).flatMap(([id, provider]) => {
    const key = `providers.${id}`;
    const rag = config.providers[provider.rag_provider];
    const overrides = Object.entries(provider.tenant_overrides).flatMap(([tenant, override]) =>
      unless(
        override.auth === undefined || override.host !== undefined || override.upstream_alias !== undefined,
        `${key}.tenant_overrides.${tenant}.auth`,
        "needs a host or an upstream_alias of its own: other credentials are another upstream",
      ),
    );
    return [
      ...unless(
        !provider.use_http || config.egress.allow_http_upstream,
        `${key}.use_http`,
        "needs egress.allow_http_upstream",
      ),
      ...unless(
        provider.storage_kind !== "azure" || provider.api_version !== undefined,
        `${key}.api_version`,
        "is required with storage_kind 'azure'",
      ),
      ...unless(
        provider.storage_backend.length <= 32,
        `${key}.storage_backend`,
        "must be at most 32 characters (its default is the provider id)",
      ),
      ...unless(rag !== undefined, `${key}.rag_provider`, UNKNOWN_PROVIDER),
      ...unless(
        provider.rag_provider === id || rag === undefined || rag.storage_kind !== "none",
        `${key}.rag_provider`,
        "must name a provider that stores files",
      ),
      ...overrides,
    ];
  });

/** The static catalog against the providers; the rest of an entry is the policy slice's to judge. */
const catalog: Rule = (config) => {
  if (config.plugins.model_policy.type !== "static") return [];
  const entries = config.plugins.model_policy.static.model_catalog ?? [];
  return entries.flatMap((entry, at) => {
    const id = entry.provider_id;
    if ((entry.enabled ?? entry.global_enabled) !== true || typeof id !== "string") return [];
    const provider = Object.hasOwn(config.providers, id) ? config.providers[id] : undefined;
    if (provider === undefined) {
      const key = `plugins.model_policy.static.model_catalog[${at}].provider_id`;
      return [{ key, message: `${UNKNOWN_PROVIDER}: ${id}` }];
    }
    return unless(
      provider.storage_kind !== "none" || provider.rag_provider !== id || !offersFileSearch(entry),
      `providers.${id}.rag_provider`,
      "is required with storage_kind 'none' because a model of this provider offers file_search",
    );
  });
};

const member = (value: unknown, name: string): unknown =>
  typeof value === "object" && value !== null ? Reflect.get(value, name) : undefined;

const offersFileSearch = (entry: Record<string, unknown>): boolean =>
  member(member(entry.general_config, "tool_support"), "file_search") === true;

const rules: readonly Rule[] = [
  queueNames,
  ranges,
  listeners,
  database,
  identity,
  plugins,
  providers,
  catalog,
];

type Timeouts = Pick<Config["providers"][string]["timeouts"], "idle_timeout_secs" | "upload_timeout_secs">;

/** Those of all providers, and those of each, where it has its own. */
const timeoutsOf = ({ egress, providers: all }: Config): (readonly [Timeouts, string])[] => [
  [egress, "egress"],
  ...Object.entries(all).map(([id, { timeouts }]) => [timeouts, `providers.${id}.timeouts`] as const),
];

const warn: Rule = (config) => [
  ...unless(
    config.database.max_connections >= config.outbox.processors + 5,
    "database.max_connections",
    "is below outbox.processors + 5: requests may wait for a connection",
  ),
  ...timeoutsOf(config).flatMap(([timeouts, key]) => [
    ...unless(
      (timeouts.idle_timeout_secs ?? 0) < config.orphan_watchdog.timeout_secs,
      `${key}.idle_timeout_secs`,
      "is not below orphan_watchdog.timeout_secs: a silent provider looks like a dead process",
    ),
    ...unless(
      (timeouts.upload_timeout_secs ?? 0) < config.cleanup_worker.stale_in_progress_timeout_secs,
      `${key}.upload_timeout_secs`,
      "is not below cleanup_worker.stale_in_progress_timeout_secs: a slow upload is taken for one whose process died",
    ),
  ]),
  ...unless(
    config.tracing.otlp_endpoint === null,
    "tracing.otlp_endpoint",
    "has no effect: there are no spans yet",
  ),
  ...unless(
    config.auth.disabled || config.auth.mode !== "static" || config.auth.tokens.length > 0,
    "auth.tokens",
    "is empty: every request will be refused",
  ),
  ...unless(
    config.instance_lease_secs < config.orphan_watchdog.timeout_secs,
    "instance_lease_secs",
    "is not below orphan_watchdog.timeout_secs: turns of dead processes wait for the lease instead",
  ),
  ...unless(
    config.role !== "worker" || config.server.ops_bind_address !== null,
    "server.ops_bind_address",
    "is null in the role worker: nothing can ask this process for its health or its metrics",
  ),
  ...unless(
    isLoopback(parseHostPort(config.server.bind_address)?.host ?? "") ||
      !config.auth.tokens.some(({ token }) => token.reveal() === DEVELOPMENT_TOKEN),
    "auth.tokens",
    "has the development token, which everybody knows, on a public server.bind_address",
  ),
];

/** The checks between keys (ops.md §3 step 1, providers.md §10) on a configuration whose keys are each valid. */
export const crossCheck = (config: Config): Findings => ({
  problems: rules.flatMap((rule) => rule(config)),
  warnings: warn(config),
});
