import type { Scenario, ScenarioEvent } from "@mini-chat/simulator";
import fc from "fast-check";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { startTestApp, type TestApp } from "../support/app.ts";
import { callers } from "../support/config.ts";
import { textOf, type WireEvent } from "../support/stream.ts";
import { creditsOf, eventsOf, total, turnRow } from "./support.ts";

let app: TestApp;
beforeAll(async () => {
  app = await startTestApp({
    config: {
      // Nobody delivers, so that every event stays on the outbox to be counted.
      role: "api",
      egress: { idle_timeout_secs: 1 },
      providers: { sim: { expose_reasoning: true, breaker: { failure_threshold: 1_000 } } },
      plugins: {
        model_policy: {
          static: {
            default_standard_limits: {
              limit_daily_credits_micro: 1_000_000_000,
              limit_monthly_credits_micro: 1_000_000_000,
            },
          },
        },
      },
    },
  });
});
afterAll(async () => {
  await app.close();
});

const piece = fc.constantFrom("a", "Zwölf ", "\n\n", "event: done\n", "🙂", "resp_abc123 ", '"}');

const event: fc.Arbitrary<ScenarioEvent> = fc.oneof(
  { weight: 5, arbitrary: fc.record({ text: piece }) },
  { weight: 1, arbitrary: fc.record({ reasoning: piece }) },
  {
    weight: 1,
    arbitrary: fc.record({
      tool: fc.constantFrom("web_search" as const),
      phase: fc.constantFrom("start" as const, "done" as const),
    }),
  },
  { weight: 1, arbitrary: fc.constant({ event: "response.something_new", data: { id: "resp_1" } }) },
);

const ending: fc.Arbitrary<Scenario> = fc.oneof(
  { weight: 4, arbitrary: fc.constant({}) },
  { weight: 1, arbitrary: fc.constant({ incomplete_reason: "max_output_tokens" }) },
  { weight: 1, arbitrary: fc.constant({ error: { code: "server_error", message: "no resp_1abc" } }) },
  { weight: 1, arbitrary: fc.constant({ terminal: "none" as const }) },
  { weight: 1, arbitrary: fc.constant({ malformed: "broken_json" as const }) },
  { weight: 1, arbitrary: fc.nat(6).map((events) => ({ drop_after: { events } })) },
  { weight: 1, arbitrary: fc.constantFrom(429, 500, 504).map((http_status) => ({ http_status })) },
);

const scenario: fc.Arbitrary<Scenario> = fc
  .tuple(
    fc.array(event, { maxLength: 8 }),
    ending,
    fc.constantFrom<NonNullable<Scenario["usage"]>>(
      "absent",
      "zero",
      { input_tokens: 70, output_tokens: 9 },
      { input_tokens: 9_000_000, output_tokens: 1 },
    ),
    fc.constantFrom<NonNullable<Scenario["chunking"]>>("event", "random"),
  )
  .map(([events, end, usage, chunking]) => ({ events, usage, chunking, ...end }));

const grammar = /^stream_started( ping)*( delta| tool)*( citations)? (done|error)$/;

/** Plays a scenario to a client that reads to the end. */
const play = async (
  played: Scenario,
): Promise<{ chatId: string; body: Body; events: WireEvent[]; raw: string }> => {
  const chatId = await app.createChat();
  app.simulator.enqueue(played);
  const body = { content: "hi", request_id: crypto.randomUUID(), web_search: { enabled: true } };
  const stream = await app.send(chatId, body);
  const events = await stream.rest();
  return { chatId, body, events, raw: stream.raw() };
};
interface Body {
  readonly content: string;
  readonly request_id: string;
}

describe("whatever the provider does", () => {
  test("§23.5, 6, 7, 8, 11, 14, 19: the stream, the books and the database tell one story", async () => {
    let charged = (await creditsOf(app, callers.ann)).spent;
    await fc.assert(
      fc.asyncProperty(scenario, async (played) => {
        const { chatId, body, events, raw } = await play(played);
        expect(events.map((one) => one.event).join(" ")).toMatch(grammar);
        const last = events.at(-1);
        const turn = await turnRow(app, body.request_id);
        const { items } = (await app.call("GET", `/chats/${chatId}/messages`)).body;
        expect(items[0]).toMatchObject({ role: "user", content: "hi", request_id: body.request_id });
        if (last?.event === "done") {
          expect(turn).toMatchObject({ state: "completed", errorCode: null });
          expect(items).toHaveLength(2);
          expect(items[1]).toMatchObject({ id: turn.messageId, role: "assistant", content: textOf(events) });
          const replay = await (await app.send(chatId, body)).rest();
          expect(textOf(replay)).toBe(items[1].content);
        } else {
          expect(turn).toMatchObject({ state: "failed", errorCode: last?.data["code"], messageId: null });
          expect(items).toHaveLength(1);
        }
        const { usage, audit } = await eventsOf(app, body.request_id);
        const { spent, reserved } = await creditsOf(app, callers.ann);
        expect(reserved).toBe(0n);
        expect(spent - charged).toBe(BigInt(Number(usage["actual_credits_micro"])));
        expect(spent).toBeGreaterThan(charged);
        charged = spent;
        for (const told of [JSON.stringify([usage, audit]), raw]) {
          expect(told).not.toContain(`:${app.simulator.port}`);
          expect(told).not.toContain("provider-standard");
        }
        expect(String(last?.data["message"] ?? "")).not.toMatch(/resp_|http/);
        expect(JSON.stringify([usage, audit])).not.toContain("resp_");
      }),
      { numRuns: 60 },
    );
    expect(await total(app, "active_streams")).toBe(0);
  });

  test("nothing that comes after the terminal event is told", async () => {
    const { events } = await play({
      events: [{ text: "all" }],
      trailing_events: [{ text: "more" }, { event: "response.failed", data: { response: { id: "resp_2" } } }],
    });
    expect(events.map((one) => one.event)).toEqual(["stream_started", "delta", "done"]);
    expect(textOf(events)).toBe("all");
  });
});
