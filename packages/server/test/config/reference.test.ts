import { readFile, writeFile } from "node:fs/promises";
import { fileURLToPath } from "node:url";
import { expect, test } from "vitest";
import { loadConfig } from "../../src/config/load.ts";
import { keyNotes } from "../../src/config/notes.ts";
import { configKeys, referenceMarkdown } from "../../src/config/reference.ts";
import { createStaticPlugin } from "../../src/policy/static-plugin.ts";
import { temporaryFile } from "./support.ts";

const document = fileURLToPath(new URL("../../../../docs/configuration.md", import.meta.url));
const marker = /^<!-- Everything below .*-->\n\n/m;

test("docs/configuration.md lists every key as the schema has it", async () => {
  const written = await readFile(document, "utf8");
  const at = marker.exec(written);
  if (at === null) throw new Error("the marker of the generated part is gone");
  const expected = written.slice(0, at.index) + at[0] + referenceMarkdown();
  if (process.env.UPDATE_SNAPSHOTS !== undefined) await writeFile(document, expected);
  expect(await readFile(document, "utf8")).toBe(expected);
});

test("no note is about a key that does not exist", () => {
  const keys = new Set(configKeys().map(({ key }) => key));
  expect(Object.keys(keyNotes).filter((key) => !keys.has(key))).toEqual([]);
});

test("the secrets are those of ops.md §2.1 and of the sinks", () => {
  const secrets = configKeys().flatMap(({ key, secret }) => (secret ? [key] : []));
  expect(secrets.sort()).toEqual([
    "auth.tokens[].token",
    "client_credentials.client_secret",
    "database.direct_url",
    "database.url",
    "internal.api_token",
    "plugins.audit.database_url",
    "plugins.audit.options",
    "plugins.audit.secret",
    "plugins.audit.token",
    "plugins.usage.database_url",
    "plugins.usage.options",
    "plugins.usage.secret",
    "plugins.usage.token",
    "server.admin_token",
  ]);
});

test("the production example of the document loads without a warning", async () => {
  const [, yaml = ""] = /```yaml\n(.*?)```/s.exec(await readFile(document, "utf8")) ?? [];
  const file = temporaryFile("example.yaml", yaml);
  const env = { DATABASE_URL: "postgres://db/chat", MINI_CHAT_CLIENT_SECRET: "secret" };
  const verdict = loadConfig({ file, env, flags: {} });
  expect("problems" in verdict ? verdict.problems : verdict.warnings).toEqual([]);
  if ("problems" in verdict) return;
  createStaticPlugin(verdict.config.plugins.model_policy.static, { providerIds: new Set(["openai"]) });
});
