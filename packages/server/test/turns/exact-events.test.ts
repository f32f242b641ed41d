import { randomUUID } from "node:crypto";
import type { Scenario } from "@mini-chat/simulator";
import { afterAll, afterEach, beforeAll, describe, expect, test } from "vitest";
import { startTestApp, type TestApp } from "../support/app.ts";
import { type Caller, callers, modelEntry, premiumEntry } from "../support/config.ts";
import { openStream } from "../support/stream.ts";
import { creditsOf, eventsOf, total, turnRow } from "./support.ts";

let app: TestApp;
beforeAll(async () => {
  app = await startTestApp({
    config: {
      // Nobody delivers, so that the events stay on the outbox to be read.
      role: "api",
      plugins: {
        model_policy: {
          static: {
            model_catalog: [
              modelEntry("standard", { preference: { is_default: true, sort_order: 0 } }),
              premiumEntry("premium"),
            ],
          },
        },
      },
    },
  });
});
afterEach(() => {
  app.simulator.clearScenarios();
});
afterAll(async () => {
  await app.close();
});

const traceId = "0af7651916cd43dd8448eb211c80319c";

interface Told {
  readonly usage: Record<string, unknown>;
  readonly audit: Record<string, unknown>;
  /** What every event of the turn says of it. */
  readonly ids: { tenant_id: string; user_id: string; chat_id: string; turn_id: string; request_id: string };
}

/** A turn of 4,000 bytes under a known trace; what it tells billing and audit. */
const play = async (scenario: Scenario, caller: Caller, model: string): Promise<Told> => {
  const chatId = await app.createChat(caller, { model });
  const requestId = randomUUID();
  app.simulator.enqueue(scenario);
  const stream = await openStream(`${app.base}/chats/${chatId}/messages:stream`, {
    headers: {
      authorization: `Bearer ${caller.token}`,
      traceparent: `00-${traceId}-b7ad6b7169203331-01`,
    },
    body: { content: "x".repeat(4_000), request_id: requestId },
  });
  await stream.rest();
  const { id } = await turnRow(app, requestId);
  const ids = {
    tenant_id: caller.tenantId,
    user_id: caller.userId,
    chat_id: chatId,
    turn_id: id,
    request_id: requestId,
  };
  return { ...(await eventsOf(app, requestId)), ids };
};

const tokens = {
  input_tokens: 900,
  output_tokens: 300,
  cache_read_input_tokens: 400,
  cache_write_input_tokens: 0,
  reasoning_tokens: 100,
};
const time = expect.stringMatching(/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,3})?Z$/);
const hex = (id: string): string => id.replaceAll("-", "");

describe("§20, outbox.md §4.1, §4.4: what a turn's end tells, word for word", () => {
  test("completed", async () => {
    const scenario: Scenario = { events: [{ text: "a" }], usage: tokens };
    const { usage, audit, ids } = await play(scenario, callers.ann, "premium");
    expect(usage).toEqual({
      ...ids,
      effective_model: "premium",
      selected_model: "premium",
      terminal_state: "completed",
      billing_outcome: "completed",
      usage: tokens,
      // quota.md §15.4: 900 × 3 + 300 × 15 of a reserve of 3,630 + 122,880.
      actual_credits_micro: 7_200,
      settlement_method: "actual",
      policy_version_applied: 1,
      web_search_calls: 0,
      code_interpreter_calls: 0,
      file_search_calls: 0,
      timestamp: time,
      requester_type: "user",
      dedupe_key: [ids.tenant_id, ids.turn_id, ids.request_id].map(hex).join("/"),
      overshoot_capped: false,
      reserved_credits_micro: 126_510,
      error_code: null,
      completion_signal: null,
    });
    expect(audit).toEqual({
      type: "turn",
      event_type: "turn_completed",
      ...ids,
      timestamp: usage["timestamp"],
      requester_type: "user",
      trace_id: traceId,
      selected_model: "premium",
      effective_model: "premium",
      policy_version_applied: 1,
      usage: { ...tokens, model: "premium" },
      latency_ms: { ttft_ms: expect.any(Number), total_ms: expect.any(Number) },
      policy_decisions: {
        license: { feature: "ai_chat", decision: "allow" },
        quota: { decision: "allow" },
      },
    });
    expect(app.simulator.requests().at(-1)?.headers["traceparent"]).toContain(traceId);
    for (const bucket of ["total", "tier:premium"] as const) {
      expect(await creditsOf(app, callers.ann, bucket)).toEqual({ spent: 7_200n, reserved: 0n, calls: 1 });
    }
  });

  test("completed early: told as a signal, not as an error", async () => {
    const scenario: Scenario = {
      events: [{ text: "a" }],
      incomplete_reason: "content_filter",
      usage: tokens,
    };
    const { usage, audit } = await play(scenario, callers.bob, "standard");
    expect(usage).toMatchObject({
      terminal_state: "completed",
      billing_outcome: "completed",
      settlement_method: "actual",
      actual_credits_micro: 1_800,
      error_code: null,
      completion_signal: { kind: "incomplete", reason: "content_filter" },
    });
    expect(audit).toMatchObject({ event_type: "turn_completed" });
    expect(audit).not.toHaveProperty("error_code");
  });

  test("failed before any token: estimated, zeros in the audit", async () => {
    const before = await creditsOf(app, callers.bob);
    const { usage, audit, ids } = await play({ http_status: 500 }, callers.bob, "standard");
    expect(usage).toMatchObject({
      terminal_state: "failed",
      billing_outcome: "failed",
      settlement_method: "estimated",
      actual_credits_micro: 1_360,
      reserved_credits_micro: 13_498,
      usage: null,
      error_code: "provider_error",
      completion_signal: null,
    });
    expect(audit).toEqual({
      type: "turn",
      event_type: "turn_failed",
      ...ids,
      timestamp: usage["timestamp"],
      requester_type: "user",
      trace_id: traceId,
      selected_model: "standard",
      effective_model: "standard",
      policy_version_applied: 1,
      usage: { input_tokens: 0, output_tokens: 0 },
      latency_ms: { total_ms: expect.any(Number) },
      policy_decisions: {
        license: { feature: "ai_chat", decision: "allow" },
        quota: { decision: "allow" },
      },
      error_code: "provider_error",
    });
    expect(await creditsOf(app, callers.bob)).toEqual({
      spent: before.spent + 1_360n,
      reserved: 0n,
      calls: before.calls + 1,
    });
  });

  test("§23.13 cancelled with text: aborted, estimated, without an error code", async () => {
    const chatId = await app.createChat(callers.amy);
    const requestId = randomUUID();
    app.simulator.enqueue({ events: [{ text: "so far" }, { wait_for: "cancelled" }] });
    const body = { content: "x".repeat(4_000), request_id: requestId };
    const stream = await app.send(chatId, body, callers.amy);
    await stream.until("delta");
    expect(await creditsOf(app, callers.amy)).toEqual({ spent: 0n, reserved: 13_498n, calls: 0 });
    await app.call("POST", `/chats/${chatId}/turns/${requestId}/cancel`, { caller: callers.amy });
    const { usage, audit } = await eventsOf(app, requestId);
    expect(usage).toMatchObject({
      terminal_state: "cancelled",
      billing_outcome: "aborted",
      settlement_method: "estimated",
      actual_credits_micro: 1_360,
      usage: null,
      error_code: null,
    });
    expect(audit).toMatchObject({ event_type: "turn_failed", usage: { input_tokens: 0, output_tokens: 0 } });
    expect(audit).not.toHaveProperty("error_code");
    expect(await creditsOf(app, callers.amy)).toEqual({ spent: 1_360n, reserved: 0n, calls: 1 });
  });
});

test("with `audit.include_content` the audit holds both texts, redacted", async () => {
  const open = await startTestApp({
    config: { role: "api", audit: { include_content: true } },
    database: app.database,
    simulator: app.simulator,
  });
  try {
    app.simulator.enqueue({ events: [{ text: "not password=" }, { text: "hunter2, surely" }] });
    const { requestId } = await open.ask(await open.createChat(), "is it password=letmein");
    const { audit } = await eventsOf(open, requestId);
    expect(audit).toMatchObject({
      prompt: "is it password=[REDACTED]",
      response: "not password=[REDACTED], surely",
    });
    expect(await total(open, "audit_redaction_hits_total")).toBe(2);
  } finally {
    await open.close();
  }
});

describe("usage above the reserve (quota.md §7.4)", () => {
  // 4,000 bytes of the standard model: 1,210 + 4,096 tokens are reserved, 13,498 credits.
  test.each([
    ["at 1.10 of it is charged in full", { input_tokens: 5_836, output_tokens: 0 }, 5_836, false],
    ["above 1.10 is capped at the reserve", { input_tokens: 5_837, output_tokens: 0 }, 13_498, true],
  ])("%s; the answer stays", async (_what, reported, credits, capped) => {
    const scenario: Scenario = { events: [{ text: "a" }], usage: reported };
    const { usage } = await play(scenario, callers.bob, "standard");
    expect(usage).toMatchObject({
      billing_outcome: "completed",
      settlement_method: "actual",
      actual_credits_micro: credits,
      overshoot_capped: capped,
      usage: reported,
    });
  });
});

describe("§23.18 settlement", () => {
  test("uses the columns of the turn, not the catalog it was made from", async () => {
    const chatId = await app.createChat(callers.bob);
    const requestId = randomUUID();
    app.simulator.enqueue({ events: [{ text: "x" }, { wait_for: "repriced" }], usage: tokens });
    const stream = await app.send(chatId, { content: "hi", request_id: requestId }, callers.bob);
    await stream.until("delta");
    // As if the turn had been admitted under another policy than today's.
    await app.db.query("alter table chat_turns disable trigger user");
    await app.db.query(
      `update chat_turns
       set input_multiplier_micro_applied = 2000000, output_multiplier_micro_applied = 5000000,
         policy_version_applied = 77
       where request_id = $1`,
      [requestId],
    );
    await app.db.query("alter table chat_turns enable trigger user");
    app.simulator.open("repriced");
    await stream.rest();
    const { usage } = await eventsOf(app, requestId);
    expect(usage).toMatchObject({ actual_credits_micro: 900 * 2 + 300 * 5, policy_version_applied: 77 });
  });
});
