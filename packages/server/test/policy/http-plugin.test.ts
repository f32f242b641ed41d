import { createServer, type IncomingMessage, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import { pluginsSection } from "../../src/config/policy.ts";
import { ConfigError } from "../../src/config/schema.ts";
import { createHttpPlugin } from "../../src/policy/http-plugin.ts";
import { InvalidSnapshotError, type ModelPolicyPlugin } from "../../src/policy/plugin.ts";
import { systemUsageEvent, turnUsageEvent } from "../../src/usage/event.ts";
import { completedTurn, summaryTask } from "../usage/samples.ts";
import { limits, providerIds, rawEntry, tenant, user } from "./support.ts";

interface Call {
  readonly method: string;
  readonly url: string;
  readonly headers: IncomingMessage["headers"];
  readonly body: string;
}

type Reply = { readonly status?: number; readonly body?: unknown } | "hang" | "reset";

let server: Server;
let calls: Call[];
/** What the policy service answers; the last reply repeats. */
let replies: Reply[];
let plugin: ModelPolicyPlugin;

const create = (settings: object = {}, env: Record<string, string> = {}): ModelPolicyPlugin => {
  const base_url = `http://127.0.0.1:${(server.address() as AddressInfo).port}/base/`;
  const { http } = pluginsSection.parse({ model_policy: { http: { base_url, ...settings } } }).model_policy;
  return createHttpPlugin(http, { providerIds, timeoutMs: 1_000, env: (name) => env[name] });
};

beforeEach(async () => {
  calls = [];
  replies = [];
  server = createServer(async (request, response) => {
    let body = "";
    for await (const chunk of request) body += String(chunk);
    calls.push({ method: request.method ?? "", url: request.url ?? "", headers: request.headers, body });
    const reply = (replies.length > 1 ? replies.shift() : replies[0]) ?? {};
    if (reply === "hang") return;
    if (reply === "reset") return void request.socket.destroy();
    const text = typeof reply.body === "string" ? reply.body : JSON.stringify(reply.body ?? {});
    response.writeHead(reply.status ?? 200, { "content-type": "application/json" }).end(text);
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  plugin = create();
});

afterEach(async () => {
  server.closeAllConnections();
  await new Promise((resolve) => server.close(resolve));
  await plugin.close?.();
});

const latest = { policy_version: 12_345, generated_at: "2026-03-01T10:00:00Z" };
const contractLimits = {
  user_id: user.userId.toUpperCase(),
  policy_version: 7,
  user_limits: {
    standard: { limit_daily_credits_micro: 100, limit_monthly_credits_micro: 1_000 },
    premium: { limit_daily_credits_micro: 50, limit_monthly_credits_micro: 500 },
  },
  computed_at: "2026-03-01T10:00:00Z",
};

describe("reads", () => {
  test("the current version, for the user, with the tenant and the credential", async () => {
    plugin = create({ auth: { header: "x-key", value_env: "POLICY_KEY" } }, { POLICY_KEY: "hush\n" });
    replies = [{ body: latest }];
    expect(await plugin.getCurrentPolicyVersion(user)).toEqual({
      policyVersion: 12_345n,
      generatedAt: new Date("2026-03-01T10:00:00Z"),
    });
    expect(calls).toMatchObject([
      {
        method: "GET",
        url: `/base/v1/policies/latest?user_id=${user.userId}`,
        headers: { "x-tenant-id": tenant, "x-key": "hush" },
      },
    ]);
  });

  test("a snapshot by the contract's names and defaults", async () => {
    const { id: _id, enabled: _enabled, general_config: _config, ...entry } = rawEntry();
    const model_catalog = [{ ...entry, model_id: "gpt", global_enabled: true, is_default: true }];
    replies = [
      { body: { policy_version: 7, snapshot: { model_catalog, kill_switches: { disable_images: true } } } },
    ];
    const snapshot = await plugin.getPolicySnapshot(user, 7n);
    expect(calls[0]?.url).toBe(`/base/v1/policies/7?user_id=${user.userId}`);
    expect(snapshot).toMatchObject({
      policyVersion: 7n,
      killSwitches: { disableImages: true },
      modelCatalog: [
        {
          id: "gpt",
          enabled: true,
          preference: { isDefault: true },
          inputMultiplierMicro: 1_000_000n,
          generalConfig: { maxFileSizeMb: 25, toolSupport: { fileSearch: false } },
        },
      ],
    });
  });

  test("limits of the user at the version", async () => {
    replies = [{ body: contractLimits }];
    expect(await plugin.getUserLimits(user, 7n)).toEqual(limits);
    expect(calls[0]?.url).toBe(`/base/v1/users/${user.userId}/limits?policy_version=7`);
  });

  test("the licence", async () => {
    replies = [{ body: { active: true } }];
    expect(await plugin.checkUserLicense?.(user)).toEqual({ active: true });
    expect(calls[0]?.url).toBe(`/base/v1/users/${user.userId}/license`);
  });

  test("an invalid snapshot is told apart from a failure", async () => {
    replies = [{ body: { policy_version: 7, snapshot: { model_catalog: [rawEntry({ tier: "GOLD" })] } } }];
    await expect(plugin.getPolicySnapshot(user, 7n)).rejects.toBeInstanceOf(InvalidSnapshotError);
  });
});

describe("a read fails as", () => {
  const snapshot = { policy_version: 8, snapshot: { model_catalog: [], kill_switches: {} } };
  const getVersion = () => plugin.getCurrentPolicyVersion(user);
  const getSnapshot = () => plugin.getPolicySnapshot(user, 7n);
  const getLimits = () => plugin.getUserLimits(user, 7n);

  test.each<[string, string, Reply, () => Promise<unknown>]>([
    ["not_found", "404", { status: 404 }, getSnapshot],
    ["internal", "another status", { status: 403 }, getVersion],
    ["internal", "a 2xx other than 200", { status: 202, body: latest }, getVersion],
    ["internal", "a redirect", { status: 302 }, getVersion],
    ["internal", "what is no JSON", { body: "<html>" }, getVersion],
    ["internal", "a missing member", { body: { generated_at: latest.generated_at } }, getVersion],
    ["internal", "a version of 0", { body: { ...latest, policy_version: 0 } }, getVersion],
    ["internal", "a snapshot of another version", { body: snapshot }, getSnapshot],
    ["internal", "limits of another version", { body: { ...contractLimits, policy_version: 8 } }, getLimits],
    ["internal", "limits of another user", { body: { ...contractLimits, user_id: tenant } }, getLimits],
    ["internal", "invalid limits", { body: { ...contractLimits, user_limits: {} } }, getLimits],
  ])("%s on %s, without a second attempt", async (kind, _what, reply, call) => {
    replies = [reply];
    await expect(call()).rejects.toMatchObject({ name: "PolicyPluginError", kind });
    expect(calls).toHaveLength(1);
  });

  test.each<[string, Reply]>([
    ["5xx", { status: 503 }],
    ["a broken connection", "reset"],
  ])("internal after one further attempt on %s", async (_name, reply) => {
    replies = [reply];
    await expect(getVersion()).rejects.toMatchObject({ kind: "internal" });
    expect(calls).toHaveLength(2);
  });

  test.each<[string, Reply]>([
    ["5xx", { status: 500 }],
    ["a broken connection", "reset"],
  ])("nothing when the attempt after %s succeeds", async (_name, reply) => {
    replies = [reply, { body: latest }];
    expect(await getVersion()).toMatchObject({ policyVersion: 12_345n });
  });

  test("internal at once with retries 0", async () => {
    plugin = create({ retries: 0 });
    replies = [{ status: 500 }];
    await expect(getVersion()).rejects.toMatchObject({ kind: "internal" });
    expect(calls).toHaveLength(1);
  });

  test("internal when the caller gives up, and no attempt follows", async () => {
    replies = ["hang"];
    const controller = new AbortController();
    const asked = plugin.getCurrentPolicyVersion({ ...user, signal: controller.signal });
    await vi.waitFor(() => expect(calls).toHaveLength(1));
    controller.abort();
    await expect(asked).rejects.toMatchObject({ kind: "internal" });
    expect(calls).toHaveLength(1);
  });

  test("internal when time is up", async () => {
    const { http } = pluginsSection.parse({
      model_policy: { http: { base_url: `http://127.0.0.1:${(server.address() as AddressInfo).port}` } },
    }).model_policy;
    plugin = createHttpPlugin(http, { providerIds, timeoutMs: 30, env: () => undefined });
    replies = ["hang"];
    await expect(getVersion()).rejects.toMatchObject({ kind: "internal" });
  });
});

describe("publishing", () => {
  test.each<[number, string | null]>([
    [200, null],
    [202, null],
    [400, "permanent"],
    [410, "permanent"],
    [422, "permanent"],
    [401, "transient"],
    [404, "transient"],
    [429, "transient"],
    [302, "transient"],
    [500, "transient"],
    [503, "transient"],
  ])("answered %s is %s, after one attempt", async (status, kind) => {
    replies = [{ status, body: { status: "accepted" } }];
    const published = plugin.publishUsage(turnUsageEvent(completedTurn));
    if (kind === null) await published;
    else await expect(published).rejects.toMatchObject({ name: "PublishError", kind });
    expect(calls).toHaveLength(1);
  });

  test("without an answer is transient", async () => {
    replies = ["reset"];
    await expect(plugin.publishUsage(turnUsageEvent(completedTurn))).rejects.toMatchObject({
      kind: "transient",
    });
    expect(calls).toHaveLength(1);
  });

  test("is transient when its time is up", async () => {
    replies = ["hang"];
    const controller = new AbortController();
    const published = plugin.publishUsage(turnUsageEvent(completedTurn), controller.signal);
    await vi.waitFor(() => expect(calls).toHaveLength(1));
    controller.abort();
    await expect(published).rejects.toMatchObject({ kind: "transient" });
  });

  test("sends a turn in the contract's terms", async () => {
    const event = turnUsageEvent({ ...completedTurn, incomplete: "max_tokens" });
    await plugin.publishUsage(event);
    expect(calls[0]).toMatchObject({
      method: "POST",
      url: "/base/v1/usage/publish",
      headers: { "x-tenant-id": completedTurn.tenantId, "content-type": "application/json" },
    });
    expect(JSON.parse(calls[0]?.body ?? "")).toEqual({
      tenant_id: completedTurn.tenantId,
      user_id: completedTurn.userId,
      chat_id: completedTurn.chatId,
      turn_id: completedTurn.turnId,
      request_id: completedTurn.requestId,
      policy_version_applied: 7,
      selected_model: "gpt-premium",
      effective_model: "gpt-standard",
      outcome: "completed",
      settlement_method: "actual",
      completion_signal: { kind: "incomplete", reason: "max_tokens" },
      usage: event.usage,
      actual_credits_micro: 126_510,
      reserved_credits_micro: 250_000,
      error_code: null,
      requester_type: "user",
      system_task_type: null,
      dedupe_key: event.dedupe_key,
    });
  });

  test("sends zeros for unknown usage", async () => {
    await plugin.publishUsage(turnUsageEvent({ ...completedTurn, usage: null }));
    expect(JSON.parse(calls[0]?.body ?? "").usage).toMatchObject({ input_tokens: 0, output_tokens: 0 });
  });

  test("sends a system task as completed and released, without user or credits", async () => {
    await plugin.publishUsage(systemUsageEvent(summaryTask));
    expect(JSON.parse(calls[0]?.body ?? "")).toMatchObject({
      user_id: null,
      turn_id: null,
      outcome: "completed",
      settlement_method: "released",
      actual_credits_micro: 0,
      requester_type: "system",
      system_task_type: "thread_summary_update",
      dedupe_key: expect.any(String),
    });
  });
});

test.each<[string, object, string]>([
  ["no base URL", { base_url: undefined }, "base_url"],
  ["an unset environment variable", { auth: { value_env: "NOT_SET" } }, "auth.value_env"],
])("%s stops the start", (_name, settings, key) => {
  try {
    create(settings);
    expect.unreachable();
  } catch (error) {
    expect(error instanceof ConfigError && error.problems.map((problem) => problem.key)).toEqual([
      `plugins.model_policy.http.${key}`,
    ]);
  }
});
