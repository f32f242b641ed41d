import { randomUUID } from "node:crypto";
import { readFileSync, rmSync } from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Scenario } from "@mini-chat/simulator";
import { afterAll, afterEach, beforeAll, describe, expect, test } from "vitest";
import { eventually, startTestApp, type TestApp } from "../support/app.ts";
import { modelEntry } from "../support/config.ts";

const usageFile = join(tmpdir(), `mini-chat-outcomes-${randomUUID()}.jsonl`);
const auditFile = join(tmpdir(), `mini-chat-outcomes-audit-${randomUUID()}.jsonl`);

let app: TestApp;
let refusedPort: number;
beforeAll(async () => {
  // A port that was free a moment ago: connecting to it is refused.
  refusedPort = await new Promise((resolve) => {
    const server = createServer().listen(0, "127.0.0.1", () => {
      const address = server.address();
      const port = typeof address === "object" && address !== null ? address.port : 0;
      server.close(() => resolve(port));
    });
  });
  app = await startTestApp({
    config: {
      egress: { request_timeout_secs: 1, idle_timeout_secs: 1 },
      providers: {
        away: {
          kind: "openai_responses",
          host: "127.0.0.1",
          port: refusedPort,
          use_http: true,
          storage_kind: "memory",
          breaker: { failure_threshold: 1000 },
        },
        sim: { breaker: { failure_threshold: 1000 } },
      },
      plugins: {
        usage: { type: "file", path: usageFile },
        audit: { type: "file", path: auditFile },
        model_policy: {
          static: {
            model_catalog: [
              modelEntry("standard", { preference: { is_default: true, sort_order: 0 } }),
              modelEntry("away", { provider_id: "away" }),
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
  rmSync(usageFile, { force: true });
  rmSync(auditFile, { force: true });
});

const published = (file: string, requestId: string): Record<string, unknown>[] => {
  let text = "";
  try {
    text = readFileSync(file, "utf8");
  } catch {
    // Nothing was published yet.
  }
  return text
    .split("\n")
    .filter((line) => line !== "")
    .map((line) => (JSON.parse(line) as { event: Record<string, unknown> }).event)
    .filter((event) => event["request_id"] === requestId);
};

interface Outcome {
  readonly last: { event: string; data: Record<string, unknown> };
  readonly status: Record<string, unknown>;
  readonly usage: Record<string, unknown>;
  readonly audit: Record<string, unknown>;
}

const play = async (scenario: Scenario, model = "standard"): Promise<Outcome> => {
  const chatId = await app.createChat(undefined, { model });
  app.simulator.enqueue(scenario);
  const { requestId, events } = await app.ask(chatId, "x".repeat(4_000));
  const status = await app.call("GET", `/chats/${chatId}/turns/${requestId}`);
  await eventually(
    () => published(usageFile, requestId).length > 0 && published(auditFile, requestId).length > 0,
  );
  const [usage, ...doubled] = published(usageFile, requestId);
  const [audit, ...more] = published(auditFile, requestId);
  expect([doubled, more]).toEqual([[], []]);
  const last = events.at(-1);
  if (last === undefined || usage === undefined || audit === undefined) throw new Error("no outcome");
  const { rows } = await app.db.query<{ reserved: bigint }>(
    "select sum(reserved_credits_micro)::bigint as reserved from quota_usage",
  );
  // §23.5: whatever the end, the reserve is back.
  expect(rows).toEqual([{ reserved: 0n }]);
  return { last, status: status.body, usage, audit };
};

const known = { input_tokens: 900, output_tokens: 300 };
// quota.md §7.2 for 4,000 bytes at 1 and 3 per token: estimate 1,210 and the floor of 50.
const estimated = 1_210 + 150;
const actual = 900 + 900;

/** The table of turns.md §11.2 through real streams (§23.15), and what the client sees (§10.4). */
const rows: readonly {
  readonly row: string;
  readonly scenario: Scenario;
  readonly last: object;
  readonly state: object;
  readonly bill: readonly [outcome: string, method: string, credits: number];
  readonly model?: string;
}[] = [
  {
    row: "1 completed with usage",
    scenario: { events: [{ text: "a" }], usage: known },
    last: { event: "done", data: { usage: known } },
    state: { state: "done" },
    bill: ["completed", "actual", actual],
  },
  {
    row: "1 stopped early with usage",
    scenario: { events: [{ text: "a" }], usage: known, incomplete_reason: "content_filter" },
    last: { event: "done", data: { usage: known } },
    state: { state: "done" },
    bill: ["completed", "actual", actual],
  },
  {
    row: "2 completed without usage",
    scenario: { events: [{ text: "a" }], usage: "absent" },
    last: { event: "done", data: { usage: null } },
    state: { state: "done" },
    bill: ["completed", "estimated", estimated],
  },
  {
    row: "4 connection refused: not started",
    scenario: {},
    model: "away",
    last: { event: "error", data: { code: "provider_error" } },
    state: { state: "error", error_code: "provider_error" },
    bill: ["failed", "released", 0],
  },
  {
    row: "8 failed with usage",
    scenario: { events: [{ text: "a" }], usage: known, error: { code: "server_error", message: "no" } },
    last: { event: "error", data: { code: "provider_error" } },
    state: { state: "error", error_code: "provider_error" },
    bill: ["failed", "actual", actual],
  },
  {
    row: "9 failed without usage",
    scenario: { usage: "absent", error: { code: "server_error", message: "no" } },
    last: { event: "error", data: { code: "provider_error" } },
    state: { state: "error", error_code: "provider_error" },
    bill: ["failed", "estimated", estimated],
  },
  {
    row: "9 refused with 429 before the stream",
    scenario: { http_status: 429 },
    last: { event: "error", data: { code: "rate_limited" } },
    state: { state: "error", error_code: "rate_limited" },
    bill: ["failed", "estimated", estimated],
  },
  {
    row: "9 no headers in time",
    scenario: { hang_after: 0, gate: "never" },
    last: { event: "error", data: { code: "provider_timeout" } },
    state: { state: "error", error_code: "provider_timeout" },
    bill: ["failed", "estimated", estimated],
  },
  {
    row: "9 silence in the middle",
    scenario: { events: [{ text: "a" }], hang_after: 1 },
    last: { event: "error", data: { code: "provider_timeout" } },
    state: { state: "error", error_code: "provider_timeout" },
    bill: ["failed", "estimated", estimated],
  },
  {
    row: "9 connection dropped in the middle",
    scenario: { events: [{ text: "a" }], drop_after: 1 },
    last: { event: "error", data: { code: "provider_error" } },
    state: { state: "error", error_code: "provider_error" },
    bill: ["failed", "estimated", estimated],
  },
  {
    row: "9 a stream without an end",
    scenario: { events: [{ text: "a" }], terminal: "none" },
    last: { event: "error", data: { code: "provider_error" } },
    state: { state: "error", error_code: "provider_error" },
    bill: ["failed", "estimated", estimated],
  },
  {
    row: "9 broken JSON",
    scenario: { events: [{ text: "a" }], malformed: "broken_json" },
    last: { event: "error", data: { code: "provider_error" } },
    state: { state: "error", error_code: "provider_error" },
    bill: ["failed", "estimated", estimated],
  },
];

describe("§23.15 every outcome is billed by its row, told once, and leaves no reserve", () => {
  test.each(rows)("row $row", async ({ scenario, last, state, bill, model }) => {
    const outcome = await play(scenario, model);
    expect(outcome.last).toMatchObject(last);
    expect(outcome.status).toMatchObject(state);
    const [billingOutcome, method, credits] = bill;
    expect(outcome.usage).toMatchObject({
      billing_outcome: billingOutcome,
      settlement_method: method,
      actual_credits_micro: credits,
      requester_type: "user",
      policy_version_applied: 1,
    });
    expect(outcome.audit).toMatchObject({
      event_type: billingOutcome === "completed" ? "turn_completed" : "turn_failed",
      policy_decisions: { quota: { decision: "allow" } },
    });
    expect(outcome.audit).not.toHaveProperty("prompt");
  });

  test("§23.19 an error's text names no provider id, address or key", async () => {
    const message = "resp_abc123 at https://api.example.com/x failed for sk-abcdefghijklmnop and file-AbC123";
    const { last } = await play({ error: { code: "x", message } });
    expect(last.data["message"]).toBe("[provider_id] at [url] failed for [credential] and [provider_id]");
  });
});
