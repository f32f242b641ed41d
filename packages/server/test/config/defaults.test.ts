import { describe, expect, test } from "vitest";
import { developmentConfig, needsSimulator } from "../../src/config/defaults.ts";
import type { Env } from "../../src/config/env.ts";
import { loadConfig } from "../../src/config/load.ts";
import { type Config, ConfigError } from "../../src/config/schema.ts";
import { createStaticPlugin } from "../../src/policy/static-plugin.ts";

const SIMULATOR = 4321;

const load = (env: Env, flags: Record<string, string> = {}) =>
  loadConfig({ env, flags, base: developmentConfig({ simulatorPort: SIMULATOR, env }) });

const developed = (env: Env, flags?: Record<string, string>): Config => {
  const verdict = load(env, flags);
  if ("problems" in verdict) throw new ConfigError(verdict.problems);
  expect(verdict.warnings).toEqual([]);
  return verdict.config;
};

describe("the provider of a start without a file", () => {
  const openai = { kind: "openai_responses", storage_kind: "openai", use_http: false };
  const auth = { kind: "apikey", header: "Authorization", prefix: "Bearer ", secret_ref: "openai-key" };

  test.each<[string, Env]>([
    ["no key", {}],
    ["a blank key", { OPENAI_API_KEY: " " }],
    ["a base URL, but no key", { OPENAI_BASE_URL: "https://llm.example/v1" }],
  ])("is the simulator with %s", (_case, env) => {
    const { providers, egress } = developed(env);
    expect(providers.openai).toMatchObject({ host: "127.0.0.1", port: SIMULATOR, use_http: true });
    expect(providers.openai?.auth).toBeUndefined();
    expect(egress.allow_http_upstream).toBe(true);
    expect(developmentConfig({ simulatorPort: SIMULATOR, env }).usesSimulator).toBe(true);
    expect(needsSimulator(env)).toBe(true);
  });

  test.each<[string, string | undefined, object]>([
    ["OpenAI", undefined, { ...openai, host: "api.openai.com", port: 443, api_path: "/v1/responses", auth }],
    ["OpenAI with an empty base URL", "", { host: "api.openai.com" }],
    [
      "a base URL",
      "https://llm.example/openai/v1/",
      { host: "llm.example", port: 443, api_path: "/openai/v1/responses" },
    ],
    ["a base URL without path", "https://llm.example", { api_path: "/responses" }],
    ["a base URL with a query", "https://llm.example/v1?v=2", { api_path: "/v1/responses?v=2" }],
    ["a base URL with a port", "https://llm.example:8443/v1", { port: 8443, use_http: false }],
    ["a local server", "http://localhost:8000/v1", { host: "localhost", port: 8000, use_http: true, auth }],
    ["a server without TLS", "http://[::1]/v1", { host: "[::1]", port: 80, use_http: true }],
  ])("is, with a key, %s", (_case, base, expected) => {
    const env = { OPENAI_API_KEY: "sk-1", OPENAI_BASE_URL: base };
    const { providers, egress } = developed(env);
    expect(providers.openai).toMatchObject(expected);
    expect(egress.allow_http_upstream).toBe(providers.openai?.use_http);
    expect(developmentConfig({ simulatorPort: null, env }).usesSimulator).toBe(false);
    expect(needsSimulator(env)).toBe(false);
  });

  test.each(["llm.example", "ftp://llm.example", "https://u:p@llm.example/v1"])("cannot be %s", (base) => {
    expect(load({ OPENAI_API_KEY: "sk-1", OPENAI_BASE_URL: base })).toMatchObject({
      problems: [{ key: "OPENAI_BASE_URL" }],
    });
  });
});

test("one user has the token dev-token and may do everything", () => {
  const [token, ...more] = developed({}).auth.tokens;
  expect(more).toEqual([]);
  expect(token?.token.reveal()).toBe("dev-token");
  expect(token).toMatchObject({
    tenant_id: "00000000-df51-5b42-9538-d2b56b7ee953",
    user_id: "11111111-6a88-4768-9dfc-6bcd5187d9ed",
    scopes: ["*"],
  });
});

test("there is a standard model, the default, and a premium one", async () => {
  const plugin = createStaticPlugin(developed({}).plugins.model_policy.static, {
    providerIds: new Set(["openai"]),
  });
  const { modelCatalog } = await plugin.getPolicySnapshot(Object(null), 1n);
  expect(modelCatalog).toMatchObject([
    { id: "gpt-4.1-mini", tier: "standard", enabled: true, preference: { isDefault: true } },
    { id: "gpt-4.1", tier: "premium", enabled: true, preference: { isDefault: false } },
  ]);
});

test("environment and flags are laid over it", () => {
  const config = developed(
    { MINI_CHAT__PROVIDERS__OPENAI__EXPOSE_REASONING: "true", MINI_CHAT__ROLE: "api" },
    { role: "worker" },
  );
  expect(config.providers.openai).toMatchObject({ expose_reasoning: true, port: SIMULATOR });
  expect(config.role).toBe("worker");
  expect(config.auth.tokens).toHaveLength(1);
});
