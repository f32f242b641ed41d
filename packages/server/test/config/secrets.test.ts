// biome-ignore-all lint/suspicious/noTemplateCurlyInString: the syntax under test.
import { inspect } from "node:util";
import { describe, expect, test } from "vitest";
import { parse, stringify } from "yaml";
import { secretSource } from "../../src/config/env.ts";
import { loadConfig } from "../../src/config/load.ts";
import { printConfig } from "../../src/config/print.ts";
import { type Config, ConfigError, parseConfig } from "../../src/config/schema.ts";
import { configWith, temporaryFile, tenant } from "./support.ts";

const planted = Object.fromEntries(
  [
    "token",
    "admin",
    "internal",
    "client",
    "database",
    "direct",
    "usage",
    "audit",
    "signing",
    "table",
    "options",
    "openai",
  ].map((name) => [name, `planted-${name}-0123456789`]),
);

/** Every secret set, each another way: literal, by `${NAME}`, by a variable, by a flag. */
const configWithSecrets = (): Config => {
  const file = temporaryFile(
    "chat.yaml",
    stringify(
      configWith({
        "auth.tokens": [{ token: planted.token, tenant_id: tenant, user_id: tenant }],
        "server.admin_token": "${ADMIN}",
        "plugins.usage.token": planted.usage,
        "plugins.audit.token": planted.audit,
        "plugins.usage.secret": planted.signing,
        "plugins.usage.database_url": `postgres://u:${planted.table}@h/d`,
        "plugins.audit.options": { region: { key: planted.options } },
        "database.direct_url": `postgres://u:${planted.direct}@h/d`,
        "providers.p.auth": { kind: "apikey", secret_ref: "openai-key" },
      }),
    ),
  );
  const verdict = loadConfig({
    file,
    env: {
      ADMIN: planted.admin,
      OPENAI_API_KEY: planted.openai,
      MINI_CHAT__INTERNAL__API_TOKEN: planted.internal,
      MINI_CHAT__DATABASE__URL: `postgres://u:${planted.database}@h/d`,
    },
    flags: { "client_credentials.client_secret": String(planted.client) },
  });
  if ("problems" in verdict) throw new ConfigError(verdict.problems);
  return verdict.config;
};

test.each<[string, (config: Config) => string]>([
  ["printed by check-config", printConfig],
  ["inspected", (config) => inspect(config, { depth: null })],
  ["serialised", (config) => JSON.stringify(config)],
  ["put into a text", (config) => `${config.server.admin_token} ${config.database.url}`],
])("no secret is in a configuration %s", (_how, print) => {
  const printed = print(configWithSecrets());
  expect(Object.values(planted).filter((secret) => printed.includes(secret))).toEqual([]);
  expect(printed).toContain("***");
});

test("the secrets are there for those who ask for them", () => {
  const { auth, server, internal, client_credentials, database, plugins } = configWithSecrets();
  expect(auth.tokens[0]?.token.reveal()).toBe(planted.token);
  expect(server.admin_token?.reveal()).toBe(planted.admin);
  expect(plugins.usage.secret?.reveal()).toBe(planted.signing);
  expect(plugins.audit.options.reveal()).toEqual({ region: { key: planted.options } });
  expect(internal.api_token?.reveal()).toBe(planted.internal);
  expect(client_credentials.client_secret?.reveal()).toBe(planted.client);
  expect(database.url?.reveal()).toBe(`postgres://u:${planted.database}@h/d`);
});

test("check-config prints what is in force as YAML, defaults included", () => {
  const printed: unknown = parse(printConfig(parseConfig(configWith({ role: "api" }))));
  expect(printed).toMatchObject({
    role: "api",
    server: { bind_address: "127.0.0.1:8087", rate_limit: { rps: 50 } },
    client_credentials: { client_id: "chat", client_secret: "***" },
    providers: { p: { host: "p.example", port: 443, storage_backend: "p" } },
  });
});

describe("secret references of providers (providers.md §8.4)", () => {
  test.each<[string, string, Record<string, string>, string | null]>([
    ["the usual key", "openai-key", { OPENAI_API_KEY: "a" }, "a"],
    [
      "the usual key before the general name",
      "openai-key",
      { OPENAI_API_KEY: "a", MINI_CHAT_SECRET_OPENAI_KEY: "b" },
      "a",
    ],
    ["the general name without the usual key", "openai-key", { MINI_CHAT_SECRET_OPENAI_KEY: "b" }, "b"],
    ["any reference", "azure.eu-key 2", { MINI_CHAT_SECRET_AZURE_EU_KEY_2: "c" }, "c"],
    ["without surrounding white space", "k", { MINI_CHAT_SECRET_K: " d\n" }, "d"],
    ["nothing when unset", "k", {}, null],
    ["nothing when blank", "k", { MINI_CHAT_SECRET_K: " \n" }, null],
    ["nothing of a variable the reference names itself", "PATH", { PATH: "/bin" }, null],
  ])("%s", (_case, reference, env, expected) => {
    const secret = secretSource(env)(reference);
    expect(secret?.reveal() ?? null).toBe(expected);
    expect(String(secret)).not.toBe(expected ?? "");
  });
});
