import { randomUUID } from "node:crypto";
import type { Scenario } from "@mini-chat/simulator";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { callApi, eventually, startTestApp, type TestApp } from "../support/app.ts";
import { callers, modelEntry, premiumEntry } from "../support/config.ts";
import { ended, samples, total } from "./support.ts";

const standard = 'provider="sim",model="standard"';

let app: TestApp;
beforeAll(async () => {
  app = await startTestApp({
    config: {
      plugins: {
        model_policy: {
          static: {
            model_catalog: [
              modelEntry("standard", { preference: { is_default: true, sort_order: 0 } }),
              premiumEntry("premium"),
            ],
            // Room for nothing of this tier: every turn of the premium model is downgraded.
            default_premium_limits: { limit_daily_credits_micro: 0, limit_monthly_credits_micro: 0 },
          },
        },
      },
    },
  });
  await mixture();
});
afterAll(async () => {
  await app.close();
});

const begin = async (scenario: Scenario, first: string) => {
  const chatId = await app.createChat();
  const requestId = randomUUID();
  app.simulator.enqueue(scenario);
  const stream = await app.send(chatId, { content: "hi", request_id: requestId });
  await stream.until(first);
  return { chatId, requestId, stream };
};

const talking: Scenario = { events: [{ text: "some" }, { wait_for: "never" }] };
const silent: Scenario = { events: [{ wait_for: "never" }] };

/** Turns of every kind, one after the other, until nothing runs. */
const mixture = async (): Promise<void> => {
  const chatId = await app.createChat();
  const requestId = randomUUID();
  await (await app.send(chatId, { content: "PING", request_id: requestId })).rest();
  await (await app.send(chatId, { content: "PING", request_id: requestId })).rest();
  await app.ask(chatId, "TRUNCATE");
  await app.ask(chatId, "ERROR");
  app.simulator.enqueue({ http_status: 429 });
  await app.ask(chatId, "limited");
  await app.ask(await app.createChat(undefined, { model: "premium" }), "PING");
  const search = [
    { tool: "web_search", phase: "start" },
    { tool: "web_search", phase: "done" },
  ] as const;
  app.simulator.enqueue({ events: [...search, ...search, ...search] });
  await (await app.send(chatId, { content: "search", web_search: { enabled: true } })).rest();
  const stopped = await begin(talking, "delta");
  await app.call("POST", `/chats/${stopped.chatId}/turns/${stopped.requestId}/cancel`);
  await stopped.stream.rest();
  const deleted = await begin(talking, "delta");
  await app.call("DELETE", `/chats/${deleted.chatId}`);
  await deleted.stream.rest();
  for (const [scenario, first] of [
    [talking, "delta"],
    [silent, "stream_started"],
  ] as const) {
    const { stream, requestId: left } = await begin(scenario, first);
    stream.disconnect();
    await ended(app, left);
  }
  await app.db.query("update quota_usage set spent_credits_micro = 9000000000000 where user_id = $1", [
    callers.ann.userId,
  ]);
  await (await app.send(chatId, { content: "too dear" })).problem();
  await eventually(async () => (await total(app, "cancel_effective_total")) === 4);
};

const of = async (name: string): Promise<Record<string, number>> => {
  const found = [...(await samples(app, name))].filter(([, value]) => value > 0);
  return Object.fromEntries(found);
};

describe("after a mixture of turns", () => {
  test("the identities of ops.md §5 hold", async () => {
    const { rows } = await app.db.query<{ state: string; turns: number }>(
      "select state, count(*)::int as turns from chat_turns group by state order by state",
    );
    expect(rows).toEqual([
      { state: "cancelled", turns: 4 },
      { state: "completed", turns: 3 },
      { state: "failed", turns: 3 },
    ]);
    const completed = await total(app, "stream_completed_total");
    expect(await total(app, "stream_started_total")).toBe(
      completed + (await total(app, "stream_failed_total")) + 4,
    );
    expect(await total(app, "stream_incomplete_total")).toBeLessThanOrEqual(completed);
    expect(await total(app, "cancel_effective_total")).toBeLessThanOrEqual(
      await total(app, "cancel_requested_total"),
    );
    expect(await total(app, "quota_preflight_v2_total")).toBe(await total(app, "quota_preflight_total"));
    expect(await total(app, "active_streams")).toBe(0);
  });

  test.each<[string, Record<string, number>]>([
    ["stream_started_total", { [standard]: 10 }],
    ["stream_completed_total", { [standard]: 3 }],
    ["stream_incomplete_total", { [`${standard},reason="max_tokens"`]: 1 }],
    [
      "stream_failed_total",
      {
        [`${standard},error_code="provider_error"`]: 1,
        [`${standard},error_code="rate_limited"`]: 1,
        [`${standard},error_code="web_search_calls_exceeded"`]: 1,
      },
    ],
    ["stream_disconnected_total", { 'stage="before_first_token"': 1, 'stage="mid_stream"': 1 }],
    ["stream_replay_total", { 'reason="idempotent_completed"': 1 }],
    ["streams_aborted_total", { 'trigger="user_stop"': 2, 'trigger="client_disconnect"': 2 }],
    [
      "cancel_requested_total",
      { 'trigger="user_stop"': 1, 'trigger="chat_deleted"': 1, 'trigger="disconnect"': 2 },
    ],
    [
      "cancel_effective_total",
      { 'trigger="user_stop"': 1, 'trigger="chat_deleted"': 1, 'trigger="disconnect"': 2 },
    ],
    ["time_from_ui_disconnect_to_cancel_ms_count", { 'trigger="disconnect"': 2 }],
    ["tool_call_limited_total", { 'tool="web_search"': 1 }],
    ["tool_calls_total", { 'tool="web_search",phase="start"': 2, 'tool="web_search",phase="done"': 2 }],
    [
      "quota_preflight_total",
      {
        'decision="allow",model="standard",tier="standard"': 9,
        'decision="downgrade",model="standard",tier="standard"': 1,
        'decision="reject",model="standard",tier="standard"': 1,
      },
    ],
    ["quota_tier_downgrade_total", { 'from_tier="premium",to_tier="standard"': 1 }],
    ["quota_reserve_total", { 'period="daily"': 10, 'period="monthly"': 10 }],
    // Known usage: PING, TRUNCATE, the downgraded PING, and the failure that reports it.
    ["quota_commit_total", { 'period="daily"': 4, 'period="monthly"': 4 }],
    ["ttft_provider_ms_count", { [standard]: 7 }],
    ["ttft_overhead_ms_count", { [standard]: 7 }],
    ["web_search_latency_ms_count", { [standard]: 2 }],
    ["stream_total_latency_ms_count", { [standard]: 10 }],
    ["finalization_latency_ms_count", { "": 10 }],
    ["unknown_error_code_total", {}],
  ])("%s", async (name, expected) => {
    expect(await of(name)).toEqual(expected);
  });

  test("no label holds an id", async () => {
    const { body } = await callApi(`${app.opsBase}/metrics`, "GET", { caller: null });
    expect(body).not.toMatch(/[0-9a-f]{8}-[0-9a-f]{4}-/);
    expect(body).not.toMatch(/resp_|file-/);
  });
});
