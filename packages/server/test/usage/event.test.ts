import { readFileSync } from "node:fs";
import { describe, expect, it } from "vitest";
import type { UsageEvent } from "../../src/outbox/events.ts";
import { isConsistentUsage } from "../../src/outbox/usage-rules.ts";
import { readUsageEvent, systemUsageEvent, type TurnUsage, turnUsageEvent } from "../../src/usage/event.ts";
import { completedTurn, summaryTask } from "./samples.ts";

const golden = (name: string): string =>
  readFileSync(new URL(`golden/${name}.json`, import.meta.url), "utf8");
const compact = (json: string): string => JSON.stringify(JSON.parse(json));
const turn = (change: Partial<TurnUsage>): UsageEvent => turnUsageEvent({ ...completedTurn, ...change });

/** Every shape of outbox.md §4.1, by the file that shows it. */
const shapes: Record<string, UsageEvent> = {
  "completed-actual": turnUsageEvent(completedTurn),
  "completed-estimated": turn({ usage: null, settlementMethod: "estimated" }),
  "completed-incomplete": turn({ incomplete: "max_tokens" }),
  "completed-capped": turn({ overshootCapped: true, actualCreditsMicro: 250_000n }),
  "cancelled-estimated": turn({
    terminalState: "cancelled",
    billingOutcome: "aborted",
    settlementMethod: "estimated",
    usage: null,
  }),
  "failed-actual": turn({ terminalState: "failed", billingOutcome: "failed", errorCode: "provider_error" }),
  "failed-released": turn({
    terminalState: "failed",
    billingOutcome: "failed",
    settlementMethod: "released",
    usage: null,
    actualCreditsMicro: 0n,
    errorCode: "context_length_exceeded",
  }),
  orphan: turn({
    terminalState: "failed",
    billingOutcome: "aborted",
    settlementMethod: "estimated",
    usage: null,
    errorCode: "orphan_timeout",
  }),
  "without-user": turn({ userId: null, requesterType: "system" }),
  "system-task": systemUsageEvent(summaryTask),
};

describe("usage event (outbox.md §4.1)", () => {
  it.each(Object.keys(shapes))("is written as in golden/%s.json, keys in order", (name) => {
    expect(JSON.stringify(shapes[name])).toBe(compact(golden(name)));
  });

  it.each(Object.keys(shapes))("reads golden/%s.json back", (name) => {
    expect(JSON.stringify(readUsageEvent(golden(name)))).toEqual(
      JSON.stringify(readUsageEvent(JSON.stringify(shapes[name]))),
    );
    expect(readUsageEvent(golden(name))).toMatchObject({ ...shapes[name] });
  });

  it.each(Object.keys(shapes))("%s is a legal combination", (name) => {
    const event = shapes[name];
    expect(event && isConsistentUsage(event)).toBe(true);
  });

  it("ignores unknown keys and takes absent keys for their empty value", () => {
    const { error_code: _, completion_signal: __, usage: ___, overshoot_capped: ____, ...rest } = turn({});
    const read = readUsageEvent(
      JSON.stringify({ ...rest, requester_type: undefined, added_later: { a: 1 } }),
    );
    expect(read).toMatchObject({
      error_code: null,
      completion_signal: null,
      usage: null,
      overshoot_capped: false,
      requester_type: "user",
    });
    expect(read).not.toHaveProperty("added_later");
  });

  it.each([
    ["a missing required key", { tenant_id: undefined }],
    ["a wrong type", { actual_credits_micro: "12" }],
    ["an upper-case uuid", { chat_id: "AAAAAAAA-0000-4000-8000-000000000000" }],
    ["a count beyond uint32", { web_search_calls: 2 ** 32 }],
    ["a local time", { timestamp: "2026-03-01T10:15:31+01:00" }],
  ])("refuses %s", (_name, change) => {
    expect(() => readUsageEvent(JSON.stringify({ ...turn({}), ...change }))).toThrow();
  });

  it("refuses an amount that is not a safe integer", () => {
    expect(() => turn({ actualCreditsMicro: 2n ** 53n })).toThrow(RangeError);
    expect(turn({ actualCreditsMicro: 2n ** 53n - 1n }).actual_credits_micro).toBe(Number.MAX_SAFE_INTEGER);
  });
});

describe("legal combinations of a usage event", () => {
  const illegal: [string, Partial<TurnUsage>][] = [
    ["completed as aborted", { billingOutcome: "aborted" }],
    ["completed and released", { settlementMethod: "released" }],
    ["cancelled as failed", { terminalState: "cancelled", billingOutcome: "failed" }],
    ["failed as completed", { terminalState: "failed" }],
    [
      "an orphan settled by actual usage",
      { terminalState: "failed", billingOutcome: "aborted", errorCode: "orphan_timeout" },
    ],
    ["a turn as system task", { billingOutcome: "system_task", settlementMethod: "none" }],
  ];
  it.each(illegal)("%s is not one", (_name, change) => {
    expect(isConsistentUsage(turn(change))).toBe(false);
  });
});
