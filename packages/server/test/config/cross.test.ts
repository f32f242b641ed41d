import { describe, expect, test } from "vitest";
import { judgeConfig } from "../../src/config/schema.ts";
import { configWith, tenant } from "./support.ts";

type Values = Readonly<Record<string, unknown>>;

const problemsOf = (values: Values): readonly string[] => {
  const verdict = judgeConfig(configWith(values));
  return "problems" in verdict ? verdict.problems.map(({ key }) => key) : [];
};

const warningsOf = (values: Values): readonly string[] => {
  const verdict = judgeConfig(configWith(values));
  return "problems" in verdict ? ["not valid"] : verdict.warnings.map(({ key }) => key);
};

const jwt = { issuer: "i", audience: "a", jwks_url: "https://i.example/keys" };
const model = (entry: object): Values => ({
  "plugins.model_policy.static.model_catalog": [{ provider_id: "p", enabled: true, ...entry }],
});
const fileSearch = { general_config: { tool_support: { file_search: true } } };
const twin = { kind: "openai_responses", host: "q.example", storage_kind: "openai" };
const override = `providers.p.tenant_overrides.${tenant}`;
const apikey = { kind: "apikey", secret_ref: "k" };

describe("rules between keys (ops.md §3, providers.md §10)", () => {
  test.each<[string, Values, string]>([
    [
      "queue names differ",
      { "outbox.audit_queue_name": "mini-chat.usage_snapshot" },
      "outbox.audit_queue_name",
    ],
    [
      "the generation floor fits the output limit",
      { "streaming.max_output_tokens": 49 },
      "estimation_budgets.minimal_generation_floor",
    ],
    ["the first retry is not the longest", { "outbox.retry_max_ms": 999 }, "outbox.retry_base_ms"],
    [
      "policy is refreshed before it is too old",
      { "policy_cache.max_stale_secs": 29 },
      "policy_cache.version_ttl_secs",
    ],
    [
      "any origin does not go with credentials",
      { "server.cors.allow_credentials": true, "server.cors.allowed_origins": ["https://a.example", "*"] },
      "server.cors.allowed_origins",
    ],
    ["an external database has a URL", { "database.mode": "external" }, "database.url"],
    ["a policy point has a URL", { "authz.mode": "http" }, "authz.url"],
    [
      "an issuer has a name",
      { "auth.mode": "jwt", "auth.jwt": { ...jwt, issuer: undefined } },
      "auth.jwt.issuer",
    ],
    [
      "an issuer has an audience",
      { "auth.mode": "jwt", "auth.jwt": { ...jwt, audience: undefined } },
      "auth.jwt.audience",
    ],
    [
      "an issuer has keys",
      { "auth.mode": "jwt", "auth.jwt": { ...jwt, jwks_url: undefined } },
      "auth.jwt.jwks_url",
    ],
    [
      "nobody is let in from outside",
      { "auth.disabled": true, "server.bind_address": "0.0.0.0:80" },
      "auth.disabled",
    ],
    [
      "a service identity has an id",
      { "client_credentials.client_id": undefined },
      "client_credentials.client_id",
    ],
    [
      "a service identity has a secret",
      { "client_credentials.client_secret": undefined },
      "client_credentials.client_secret",
    ],
    [
      "a token names one user",
      {
        "auth.tokens": [
          { token: "t", tenant_id: tenant, user_id: tenant },
          { token: "t", tenant_id: tenant, user_id: "11111111-1111-4111-8111-111111111111" },
        ],
      },
      "auth.tokens[1].token",
    ],
    [
      "a static policy has a catalog",
      { "plugins.model_policy.static.model_catalog": undefined },
      "plugins.model_policy.static.model_catalog",
    ],
    [
      "a policy service has a URL",
      { "plugins.model_policy.type": "http" },
      "plugins.model_policy.http.base_url",
    ],
    ["usage goes to a file with a path", { "plugins.usage.type": "file" }, "plugins.usage.path"],
    ["usage goes to an endpoint with a URL", { "plugins.usage.type": "http" }, "plugins.usage.url"],
    ["usage goes to a module with a path", { "plugins.usage.type": "module" }, "plugins.usage.module"],
    ["audit goes to a file with a path", { "plugins.audit.type": "file" }, "plugins.audit.path"],
    ["audit goes to an endpoint with a URL", { "plugins.audit.type": "http" }, "plugins.audit.url"],
    ["plain HTTP is allowed first", { "providers.p.use_http": true }, "providers.p.use_http"],
    ["azure has an API version", { "providers.p.storage_kind": "azure" }, "providers.p.api_version"],
    [
      "the default storage label fits too",
      { "providers.this-id-is-longer-than-thirty-two-characters": twin },
      "providers.this-id-is-longer-than-thirty-two-characters.storage_backend",
    ],
    ["files are stored by a known provider", { "providers.p.rag_provider": "q" }, "providers.p.rag_provider"],
    [
      "files are stored where files are stored",
      { "providers.q": { ...twin, storage_kind: "none" }, "providers.p.rag_provider": "q" },
      "providers.p.rag_provider",
    ],
    ["other credentials are another upstream", { [`${override}.auth`]: apikey }, `${override}.auth`],
    [
      "an enabled model has a provider",
      model({ provider_id: "q" }),
      "plugins.model_policy.static.model_catalog[0].provider_id",
    ],
    [
      "a model enabled by its alias has a provider",
      model({ provider_id: "q", enabled: undefined, global_enabled: true }),
      "plugins.model_policy.static.model_catalog[0].provider_id",
    ],
    [
      "a model that searches files has a place for them",
      { ...model(fileSearch), "providers.p.storage_kind": "none" },
      "providers.p.rag_provider",
    ],
  ])("%s", (_rule, values, key) => {
    expect(problemsOf(values)).toEqual([key]);
  });

  test.each<[string, Values]>([
    ["the generation floor may be the output limit", { "streaming.max_output_tokens": 50 }],
    ["all retries may wait equally long", { "outbox.retry_max_ms": 1_000 }],
    ["auth may be disabled on loopback", { "auth.disabled": true, client_credentials: {} }],
    ["auth may be disabled on IPv6 loopback", { "auth.disabled": true, "server.bind_address": "[::1]:80" }],
    [
      "auth may be disabled anywhere if that is wanted",
      { "auth.disabled": true, "auth.allow_public_disabled": true, "server.bind_address": "0.0.0.0:80" },
    ],
    [
      "credentials may go to named origins",
      { "server.cors.allow_credentials": true, "server.cors.allowed_origins": ["https://a.example"] },
    ],
    ["other credentials may have a host", { [override]: { auth: apikey, host: "eu.example" } }],
    ["other credentials may have an alias", { [override]: { auth: apikey, upstream_alias: "eu" } }],
    ["a disabled model may name any provider", model({ provider_id: "q", enabled: false })],
    [
      "files may be stored by another provider",
      {
        ...model(fileSearch),
        "providers.q": twin,
        "providers.p.storage_kind": "none",
        "providers.p.rag_provider": "q",
      },
    ],
    [
      "files may be stored in our own database",
      { ...model(fileSearch), "providers.p.storage_kind": "local" },
    ],
    ["models may come from elsewhere", { "plugins.model_policy": { type: "ours" } }],
  ])("%s", (_rule, values) => {
    expect(problemsOf(values)).toEqual([]);
  });

  test("migrations are checked, not applied, on an external database", () => {
    const verdict = judgeConfig(
      configWith({ "database.mode": "external", "database.url": "postgres://db/chat" }),
    );
    expect(verdict).toMatchObject({ config: { database: { migrations: "check" } } });
  });

  test("without TLS the port is 80", () => {
    const verdict = judgeConfig(
      configWith({ "providers.p.use_http": true, "egress.allow_http_upstream": true }),
    );
    expect(verdict).toMatchObject({ config: { providers: { p: { port: 80 } } } });
  });

  test("without providers there is one, OpenAI with its usual key", () => {
    const verdict = judgeConfig(configWith({ providers: undefined }));
    expect(verdict).toMatchObject({
      config: {
        providers: {
          openai: {
            kind: "openai_responses",
            host: "api.openai.com",
            port: 443,
            use_http: false,
            auth: { kind: "apikey", header: "Authorization", prefix: "Bearer ", secret_ref: "openai-key" },
          },
        },
      },
    });
  });

  test("an empty metrics prefix is the default one", () => {
    const verdict = judgeConfig(configWith({ "metrics.prefix": "  " }));
    expect(verdict).toMatchObject({ config: { metrics: { prefix: "mini_chat" } } });
  });
});

describe("doubtful, but allowed", () => {
  test.each<[string, Values, readonly string[]]>([
    ["a pool smaller than the outbox needs", { "database.max_connections": 8 }, ["database.max_connections"]],
    ["a pool just large enough", { "database.max_connections": 9 }, []],
    [
      "a provider may be silent as long as a dead process",
      { "egress.idle_timeout_secs": 300 },
      ["egress.idle_timeout_secs"],
    ],
    ["a provider may be silent a little shorter", { "egress.idle_timeout_secs": 299 }, []],
    [
      "an upload may take as long as one whose process died",
      { "egress.upload_timeout_secs": 900 },
      ["egress.upload_timeout_secs"],
    ],
    ["an upload may take a little less", { "egress.upload_timeout_secs": 899 }, []],
    [
      "one provider may be silent, and its uploads last, for too long",
      {
        "providers.p.timeouts.idle_timeout_secs": 300,
        "providers.p.timeouts.upload_timeout_secs": 900,
      },
      ["providers.p.timeouts.idle_timeout_secs", "providers.p.timeouts.upload_timeout_secs"],
    ],
    [
      "spans that nobody makes",
      { "tracing.otlp_endpoint": "http://localhost:4318" },
      ["tracing.otlp_endpoint"],
    ],
    [
      "a lease as long as a turn may be silent",
      { instance_lease_secs: 300, "orphan_watchdog.timeout_secs": 300 },
      ["instance_lease_secs"],
    ],
    [
      "a worker nobody can ask for its health",
      { role: "worker", "server.ops_bind_address": null },
      ["server.ops_bind_address"],
    ],
    ["another process whose health is on its public listener", { "server.ops_bind_address": null }, []],
    ["nobody has a token", { "auth.tokens": [] }, ["auth.tokens"]],
    [
      "the development token on a public address",
      {
        "auth.tokens": [{ token: "dev-token", tenant_id: tenant, user_id: tenant }],
        "server.bind_address": "0.0.0.0:80",
      },
      ["auth.tokens"],
    ],
  ])("%s", (_case, values, keys) => {
    expect(warningsOf(values)).toEqual(keys);
  });
});

describe("all problems at once", () => {
  test("wrong types, unknown keys, missing keys and broken rules come together", () => {
    expect(
      problemsOf({
        "server.bind_adress": "127.0.0.1:80",
        "database.max_connections": 0,
        "outbox.processors": "4",
        "rag.max_images_per_message": 0,
        "client_credentials.client_id": undefined,
        "database.mode": "external",
        "providers.p.host": undefined,
        "log.level": "loud",
        surprise: 1,
      }),
    ).toEqual(
      expect.arrayContaining([
        "server.bind_adress",
        "database.max_connections",
        "outbox.processors",
        "rag.max_images_per_message",
        "client_credentials.client_id",
        "database.url",
        "providers.p.host",
        "log.level",
        "surprise",
      ]),
    );
  });

  test("a provider that is wrong in itself is not also reported missing", () => {
    expect(problemsOf({ ...model({}), "providers.p.kind": "telepathy" })).toEqual(["providers.p.kind"]);
  });
});
