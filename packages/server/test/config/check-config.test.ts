import { spawnSync } from "node:child_process";
import { fileURLToPath } from "node:url";
import { expect, test } from "vitest";
import { parse, stringify } from "yaml";
import { configWith, temporaryFile } from "./support.ts";

const main = fileURLToPath(new URL("../../src/main.ts", import.meta.url));

const checkConfig = (file: string, args: readonly string[], env: Record<string, string> = {}) =>
  spawnSync(process.execPath, [main, "check-config", "--config", file, ...args], {
    encoding: "utf8",
    env: { PATH: process.env.PATH, ...env },
  });

test("check-config prints what is in force, without its secrets, and ends with 0", () => {
  const file = temporaryFile(
    "chat.yaml",
    stringify(configWith({ "server.admin_token": "planted-in-the-file" })),
  );
  const url = "postgres://u:planted-in-the-environment@h/d";
  const { status, stdout, stderr } = checkConfig(
    file,
    ["--internal.api_token=planted-in-a-flag", "--role=api"],
    {
      MINI_CHAT__DATABASE__URL: url,
      MINI_CHAT__DATABASE__MAX_CONNECTIONS: "3",
      OPENAI_API_KEY: "planted-key",
    },
  );
  expect(status).toBe(0);
  expect(parse(stdout)).toMatchObject({
    role: "api",
    database: { url: "***", max_connections: 3 },
    server: { admin_token: "***" },
    internal: { api_token: "***" },
  });
  expect(stderr).toContain("warning: database.max_connections: ");
  expect(stdout + stderr).not.toContain("planted");
});

test("check-config lists every problem and ends with 2", () => {
  const file = temporaryFile(
    "chat.yaml",
    stringify(configWith({ "server.admin_token": "planted", rol: "api" })),
  );
  const { status, stdout, stderr } = checkConfig(file, ["--outbox.processors=planted"]);
  expect(status).toBe(2);
  for (const key of ["server.admin_token", "rol", "outbox.processors"]) expect(stderr).toContain(`${key}: `);
  expect(stdout).toBe("");
  expect(stderr).not.toContain("planted");
});

test("check-config names each provider of a kind this release does not speak and ends with 2", () => {
  const file = temporaryFile(
    "chat.yaml",
    stringify(configWith({ "providers.later": { kind: "vllm_responses", host: "h", storage_kind: "none" } })),
  );
  const { status, stderr } = checkConfig(file, []);
  expect(status).toBe(2);
  expect(stderr).toContain("providers.later.kind: ");
});
