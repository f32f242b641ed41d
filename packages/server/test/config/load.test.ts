// biome-ignore-all lint/suspicious/noTemplateCurlyInString: the syntax under test.
import { dirname, join } from "node:path";
import { describe, expect, test } from "vitest";
import { stringify } from "yaml";
import { type LoadOptions, loadConfig } from "../../src/config/load.ts";
import { type Config, ConfigError } from "../../src/config/schema.ts";
import { configWith, leastConfig, temporaryFile, tenant } from "./support.ts";

type Given = Partial<Pick<LoadOptions, "env" | "flags">> & { readonly text?: string; readonly name?: string };

const load = ({ text = stringify(leastConfig()), name = "chat.yaml", env = {}, flags = {} }: Given) =>
  loadConfig({ file: temporaryFile(name, text), env, flags });

const loaded = (given: Given): Config => {
  const verdict = load(given);
  if ("problems" in verdict) throw new ConfigError(verdict.problems);
  return verdict.config;
};

const problemsOf = (given: Given): readonly { key: string; message: string }[] => {
  const verdict = load(given);
  return "problems" in verdict ? verdict.problems : [];
};

const fileWith = (values: Record<string, unknown>): string => stringify(configWith(values));

describe("where a value comes from: the last of file, environment, flag wins", () => {
  const text = fileWith({ "server.rate_limit": { rps: 1, burst: 1 }, "license.tenants": ["*", tenant] });
  const env = { MINI_CHAT__SERVER__RATE_LIMIT__RPS: "2" };
  const flags = { "server.rate_limit.rps": "3" };

  test.each<[string, Given, number]>([
    ["the default without any", {}, 50],
    ["the file over the default", { text }, 1],
    ["the environment over the file", { text, env }, 2],
    ["the environment over the default", { env }, 2],
    ["the flag over the file", { text, flags }, 3],
    ["the flag over the environment and the file", { text, env, flags }, 3],
    ["the flag over the environment", { env, flags }, 3],
  ])("%s", (_case, given, rps) => {
    expect(loaded(given).server.rate_limit.rps).toBe(rps);
  });

  test("maps are merged, so that siblings stay", () => {
    expect(loaded({ text, env }).server.rate_limit).toMatchObject({ rps: 2, burst: 1, in_flight: 64 });
  });

  test("lists are replaced as a whole", () => {
    const { license } = loaded({ text, env: { MINI_CHAT__LICENSE__TENANTS: `["${tenant}"]` } });
    expect(license.tenants).toEqual([tenant]);
  });

  test("a section may be given as a whole, and its keys over it", () => {
    const { rps, burst } = loaded({
      env: { MINI_CHAT__SERVER__RATE_LIMIT: '{"rps": 5, "burst": 6}', ...env },
    }).server.rate_limit;
    expect({ rps, burst }).toEqual({ rps: 2, burst: 6 });
  });

  test("without a file the base is what a file would be, with a file it is not looked at", () => {
    const base = { tree: configWith({ role: "worker" }), problems: [] };
    expect(loadConfig({ env: {}, flags: {}, base })).toMatchObject({ config: { role: "worker" } });
    expect(loadConfig({ env: { MINI_CHAT__ROLE: "api" }, flags: {}, base })).toMatchObject({
      config: { role: "api" },
    });
    const file = temporaryFile("chat.yaml", stringify(leastConfig()));
    expect(loadConfig({ file, env: {}, flags: {}, base })).toMatchObject({ config: { role: "all" } });
  });
});

describe("a value given as text", () => {
  test.each<[string, string, string, unknown]>([
    ["a number", "DATABASE__MAX_CONNECTIONS", "40", { database: { max_connections: 40 } }],
    ["a fraction", "TRACING__SAMPLE_RATIO", "0.5", { tracing: { sample_ratio: 0.5 } }],
    ["a truth value", "RAG__ALLOW_CSV_UPLOAD", "false", { rag: { allow_csv_upload: false } }],
    ["null", "SERVER__OPS_BIND_ADDRESS", "null", { server: { ops_bind_address: null } }],
    [
      "null for a number",
      "QUOTA__IMAGE_UPLOAD_BYTES_DAILY_QUOTA",
      "null",
      { quota: { image_upload_bytes_daily_quota: null } },
    ],
    ["an empty text", "CONTEXT__WEB_SEARCH_GUARD", "", { context: { web_search_guard: "" } }],
    ["text like a number", "AUTH__JWT__AUDIENCE", "0123", { auth: { jwt: { audience: "0123" } } }],
    ["text like a truth value", "AUTH__JWT__AUDIENCE", "true", { auth: { jwt: { audience: "true" } } }],
    [
      "text like null where null is not allowed",
      "AUTH__JWT__AUDIENCE",
      "null",
      { auth: { jwt: { audience: "null" } } },
    ],
    ["text like a list", "AUTH__JWT__AUDIENCE", "[a", { auth: { jwt: { audience: "[a" } } }],
    [
      "text with YAML's own signs",
      "AUTH__JWT__AUDIENCE",
      "*a: #b",
      { auth: { jwt: { audience: "*a: #b" } } },
    ],
    [
      "a list",
      "SERVER__CORS__ALLOWED_ORIGINS",
      "[a, 'b']",
      { server: { cors: { allowed_origins: ["a", "b"] } } },
    ],
    [
      "a list of maps",
      "PLUGINS__MODEL_POLICY__STATIC__MODEL_CATALOG",
      '[{"id": "m", "context_window": 7}]',
      { plugins: { model_policy: { static: { model_catalog: [{ id: "m", context_window: 7 }] } } } },
    ],
  ])("%s", (_kind, name, value, expected) => {
    expect(loaded({ env: { [`MINI_CHAT__${name}`]: value } })).toMatchObject(Object(expected));
    const flag = name.toLowerCase().replaceAll("__", ".");
    expect(loaded({ flags: { [flag]: value } })).toMatchObject(Object(expected));
  });

  test("a secret is taken to the letter", () => {
    const secret = ' 00"#: {x\\n';
    const { client_credentials } = loaded({ env: { MINI_CHAT__CLIENT_CREDENTIALS__CLIENT_SECRET: secret } });
    expect(client_credentials.client_secret?.reveal()).toBe(secret);
  });
});

describe("keys of maps, which a variable cannot spell", () => {
  const provider = { kind: "openai_responses", host: "a.example", storage_kind: "openai" };

  test.each(["azure-eu", "Azure_EU", "azure.eu"])("the variable means the provider %s of the file", (id) => {
    const text = fileWith({ providers: { [id]: provider } });
    const { providers } = loaded({ text, env: { MINI_CHAT__PROVIDERS__AZURE_EU__HOST: "b.example" } });
    expect(Object.keys(providers)).toEqual([id]);
    expect(providers[id]?.host).toBe("b.example");
  });

  test("an exact name goes before a similar one", () => {
    const text = fileWith({ providers: { "azure-eu": provider, azure_eu: provider } });
    const { providers } = loaded({ text, env: { MINI_CHAT__PROVIDERS__AZURE_EU__HOST: "b.example" } });
    expect([providers["azure-eu"]?.host, providers.azure_eu?.host]).toEqual(["a.example", "b.example"]);
  });

  test("a provider may be new", () => {
    const { providers } = loaded({
      env: {
        MINI_CHAT__PROVIDERS__LOCAL__KIND: "vllm_responses",
        MINI_CHAT__PROVIDERS__LOCAL__HOST: "127.0.0.1",
        MINI_CHAT__PROVIDERS__LOCAL__STORAGE_KIND: "none",
      },
    });
    expect(providers.local).toMatchObject({ kind: "vllm_responses", host: "127.0.0.1" });
  });

  test.each([tenant, tenant.toUpperCase().replaceAll("-", "_")])(
    "a tenant id may be written %s",
    (spelling) => {
      const name = `MINI_CHAT__PROVIDERS__P__TENANT_OVERRIDES__${spelling}__HOST`;
      const { providers } = loaded({ env: { [name]: "t.example" } });
      expect(providers.p?.tenant_overrides).toEqual({ [tenant]: { host: "t.example" } });
    },
  );
});

describe("${NAME}", () => {
  test("is replaced wherever a text is: in the file, in lists, in a variable, in a flag", () => {
    const env = { HOST: "h.example", MINI_CHAT__AUTH__JWT__AUDIENCE: "a-${HOST}" };
    const config = loaded({
      text: fileWith({ "providers.p.host": "${HOST}", "server.cors.allowed_origins": ["https://${HOST}"] }),
      env,
      flags: { "auth.jwt.issuer": "i-${HOST}-${HOST}" },
    });
    expect(config.providers.p?.host).toBe("h.example");
    expect(config.server.cors.allowed_origins).toEqual(["https://h.example"]);
    expect(config.auth.jwt).toMatchObject({ audience: "a-h.example", issuer: "i-h.example-h.example" });
  });

  test("an empty variable is set", () => {
    expect(loaded({ text: fileWith({ url_prefix: "${NOTHING}" }), env: { NOTHING: "" } }).url_prefix).toBe(
      "",
    );
  });

  test("an unset variable is a problem of its key", () => {
    const text = fileWith({ "server.cors.allowed_origins": ["x", "${MISSING}"], "database.url": "${GONE}" });
    expect(problemsOf({ text })).toEqual([
      { key: "server.cors.allowed_origins[1]", message: "the environment variable MISSING is not set" },
      { key: "database.url", message: "the environment variable GONE is not set" },
    ]);
  });

  test("is replaced once: what the variable holds is not searched again", () => {
    const text = fileWith({ "auth.jwt.audience": "${OUTER}" });
    expect(loaded({ text, env: { OUTER: "${INNER}", INNER: "x" } }).auth.jwt.audience).toBe("${INNER}");
  });

  test("a variable's special characters mean nothing", () => {
    const text = fileWith({ "client_credentials.client_secret": "${PW}" });
    const { client_credentials } = loaded({ text, env: { PW: "$& $1: #'\"" } });
    expect(client_credentials.client_secret?.reveal()).toBe("$& $1: #'\"");
  });

  test("may stand for a number, a truth value or a list", () => {
    const text = fileWith({
      "database.max_connections": "${N}",
      "rag.allow_csv_upload": "${B}",
      "license.tenants": "${L}",
    });
    const config = loaded({ text, env: { N: "7", B: "false", L: `[${tenant}]` } });
    expect(config.database.max_connections).toBe(7);
    expect(config.rag.allow_csv_upload).toBe(false);
    expect(config.license.tenants).toEqual([tenant]);
  });

  test("does not make a number of a catalog entry's text", () => {
    const text = fileWith({
      "plugins.model_policy.static.model_catalog": [{ id: "m", system_prompt: "${PROMPT}" }],
    });
    const { plugins } = loaded({ text, env: { PROMPT: "42" } });
    expect(plugins.model_policy.static.model_catalog).toEqual([{ id: "m", system_prompt: "42" }]);
  });
});

describe("files", () => {
  test("JSON is read like YAML", () => {
    const text = JSON.stringify(configWith({ role: "api" }), null, "\t");
    expect(loaded({ text, name: "chat.json" }).role).toBe("api");
  });

  test("an empty file is an empty configuration", () => {
    expect(problemsOf({ text: "" }).map(({ key }) => key)).toContain("client_credentials.client_id");
  });

  test("a file that is not there is told by its name", () => {
    const file = join(dirname(temporaryFile("x", "")), "missing.yaml");
    expect(loadConfig({ file, env: {}, flags: {} })).toEqual({
      problems: [{ key: file, message: "cannot be read: no such file" }],
    });
  });

  test("a directory is no file", () => {
    const file = dirname(temporaryFile("x", ""));
    expect(loadConfig({ file, env: {}, flags: {} })).toMatchObject({
      problems: [{ message: "cannot be read: it is a directory" }],
    });
  });

  test.each<[string, string, string]>([
    ["a list left open", "role: all\nserver: [1", "line 2, column 11"],
    ["two documents", "role: all\n---\nrole: api", "line 2, column 1"],
    ["an unknown tag", "role: !secret x", "line 1, column 7"],
    ["a bad indent", "server:\n  a: 1\n b: 2", "line 3, column 1"],
  ])("%s is told by its line", (_fault, text, place) => {
    const problems = problemsOf({ text });
    expect(problems[0]?.key).toMatch(/chat\.yaml$/);
    expect(problems[0]?.message).toContain(place);
  });

  test.each<[string, string]>([
    ["a list", "- role"],
    ["a text", "role"],
    ["an alias of nothing", "role: *missing"],
    ["an alias of itself", "server: &a { b: *a }"],
  ])("%s is no configuration", (_what, text) => {
    expect(problemsOf({ text })).toHaveLength(1);
  });

  test("a key that is there twice is told by its full name, with all other problems", () => {
    const text = `${stringify(leastConfig())}server:\n  cors: { enabled: true, enabled: false }\nrole: 7\nrole: all\nsurprise: 1\n`;
    expect(problemsOf({ text })).toEqual([
      { key: "server.cors.enabled", message: "is in the file twice" },
      { key: "role", message: "is in the file twice" },
      { key: "surprise", message: "unknown key" },
    ]);
  });

  test.each(["__proto__", "constructor", "toString"])("a key %s is only an unknown key", (key) => {
    const text = `${stringify(leastConfig())}${key}: { role: api }\n`;
    expect(problemsOf({ text })).toEqual([{ key, message: "unknown key" }]);
    const variable = `MINI_CHAT__SERVER__${key.toUpperCase()}`;
    expect(problemsOf({ env: { [variable]: "1" } })).toHaveLength(1);
  });
});

describe("problems", () => {
  test("of file, environment, flags and rules come together, with what set them", () => {
    const problems = problemsOf({
      text: "rol: api\nserver: { body_limit_bytes: 1 }\ndatabase: { mode: external }\nurl_prefix: ${GONE}\n",
      env: {
        MINI_CHAT__SERVER__REQUEST_TIMEOUT_SECS: "soon",
        MINI_CHAT__SERVER__CORS: "{",
        MINI_CHAT____ROLE: "api",
        MINI_CHAT__LOG__LEVEL: "loud",
      },
      flags: { "outbox.processors": "65", "outbox.": "1", "outbox.procesors": "1" },
    });
    const texts = new Map(problems.map(({ key, message }) => [key, message]));
    expect(texts.get("server.request_timeout_secs")).toMatch(
      / \(set by MINI_CHAT__SERVER__REQUEST_TIMEOUT_SECS\)$/,
    );
    expect(texts.get("server.cors")).toBe("cannot be read (set by MINI_CHAT__SERVER__CORS)");
    expect(texts.get("MINI_CHAT____ROLE")).toMatch(/names no key/);
    expect(texts.get("outbox.processors")).toMatch(/ \(set by --outbox\.processors\)$/);
    expect(texts.get("outbox.procesors")).toBe("unknown key (set by --outbox.procesors)");
    expect(texts.get("--outbox.")).toMatch(/names no key/);
    expect(texts.get("url_prefix")).toMatch(/GONE/);
    expect([...texts.keys()]).toEqual(
      expect.arrayContaining([
        "rol",
        "server.body_limit_bytes",
        "database.url",
        "log.level",
        "client_credentials.client_id",
        "client_credentials.client_secret",
        "plugins.model_policy.static.model_catalog",
      ]),
    );
  });

  test("never repeat a value, which may be a secret", () => {
    const secret = "hunter2hunter2";
    const texts = [
      `a: "${secret}`,
      `a: '${secret}' "${secret}"`,
      `a: @${secret}`,
      `client_credentials: [${secret}`,
      `client_credentials: ${secret}: ${secret}`,
      `client_credentials: !${secret} x`,
      `client_credentials: *${secret}`,
      `%${secret}\n---\na: 1`,
      `a: "\\q${secret}"`,
      `a: >${secret}`,
      `client_credentials: ${secret}`,
      fileWith({ "database.url": `mysql://u:${secret}@h/d` }),
      fileWith({ "server.admin_token": { [`x`]: secret } }),
      fileWith({ "log.level": secret }),
      fileWith({ "authz.url": `https://u:${secret}@x.example` }),
      fileWith({ "server.bind_address": secret }),
      fileWith({ "client_credentials.client_secret": `\${${secret}!}` }),
    ];
    const env = { MINI_CHAT__DATABASE__MAX_CONNECTIONS: secret, MINI_CHAT__SERVER__CORS: `{${secret}` };
    for (const text of texts) {
      const problems = problemsOf({ text, env });
      expect(problems).not.toEqual([]);
      expect(JSON.stringify(problems)).not.toContain(secret);
    }
  });
});
