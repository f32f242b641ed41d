import { randomUUID } from "node:crypto";
import type { Scenario, ScenarioEvent } from "@mini-chat/simulator";
import { afterAll, afterEach, beforeAll, describe, expect, test } from "vitest";
import { eventually, startTestApp, type TestApp } from "../support/app.ts";
import { type Caller, callers } from "../support/config.ts";
import type { WireEvent } from "../support/stream.ts";
import { ended, eventsOf, samples, turnRow } from "./support.ts";

let app: TestApp;
beforeAll(async () => {
  app = await startTestApp({ config: { role: "api" } });
});
afterEach(() => {
  app.simulator.clearScenarios();
});
afterAll(async () => {
  await app.close();
});

const search: readonly ScenarioEvent[] = [
  { tool: "web_search", phase: "start" },
  { tool: "web_search", phase: "done" },
];
/** Code runs as a provider reports them that makes them without having been offered the tool. */
const run = (at: number): readonly ScenarioEvent[] => [
  { event: "response.code_interpreter_call.in_progress", data: { item_id: `ci_${at}` } },
  {
    event: "response.code_interpreter_call.completed",
    data: { item_id: `ci_${at}`, outputs: [{ type: "logs", logs: `run ${at}` }] },
  },
];

const begin = async (scenario: Scenario, caller: Caller = callers.ann) => {
  const chatId = await app.createChat(caller);
  const requestId = randomUUID();
  app.simulator.enqueue(scenario);
  const body = { content: "hi", request_id: requestId, web_search: { enabled: true } };
  return { requestId, stream: await app.send(chatId, body, caller) };
};

const told = (events: readonly WireEvent[]): unknown[] =>
  events.map(({ event, data }) => ({ event, ...data }));

const callsOf = async ({ userId }: Caller): Promise<unknown> =>
  (
    await app.db.query(
      `select web_search_calls as web, code_interpreter_calls as code, file_search_calls as files
       from quota_usage where user_id = $1 and period_type = 'monthly' and bucket = 'total'`,
      [userId],
    )
  ).rows[0];

describe("tool events (turns.md §5.2, §8)", () => {
  test("are told with exactly their fields, and count when they finish", async () => {
    const { requestId, stream } = await begin({
      events: [
        ...search,
        ...run(1),
        { event: "response.file_search_call.searching", data: { item_id: "fs_1" } },
        {
          event: "response.file_search_call.completed",
          data: { item_id: "fs_1", results: [{ file_id: "file-1" }, { file_id: "file-2" }] },
        },
        { text: "found" },
      ],
    });
    const tool = (phase: string, name: string, details: object) => ({ event: "tool", phase, name, details });
    expect(told(await stream.rest()).slice(1, -1)).toEqual([
      tool("start", "web_search", {}),
      tool("done", "web_search", {}),
      tool("start", "code_interpreter", {}),
      tool("done", "code_interpreter", { output: "run 1" }),
      tool("start", "file_search", {}),
      tool("done", "file_search", { files_searched: 2 }),
      { event: "delta", type: "text", content: "found" },
    ]);
    const { usage, audit } = await eventsOf(app, requestId);
    expect(usage).toMatchObject({ web_search_calls: 1, code_interpreter_calls: 1, file_search_calls: 1 });
    expect(audit["tool_calls"]).toEqual({ web_search_calls: 1, file_search_calls: 1 });
    expect(await callsOf(callers.ann)).toEqual({ web: 1, code: 1, files: 1 });
  });

  test("a long output of code is cut at 8,192 characters", async () => {
    const logs = "0".repeat(8_193);
    const { stream } = await begin({
      events: [
        {
          event: "response.code_interpreter_call.completed",
          data: { outputs: [{ type: "logs", logs }] },
        },
      ],
    });
    const { data } = await stream.until("tool");
    expect(data["details"]).toEqual({ output: `${logs.slice(1)}...[truncated]` });
    await stream.rest();
  });

  test("a finished call is persisted at once, for a watchdog that may need it", async () => {
    const { requestId, stream } = await begin({ events: [...search, { wait_for: "counted" }] });
    await eventually(async () => (await turnRow(app, requestId)).webSearches === 1);
    expect((await turnRow(app, requestId)).state).toBe("running");
    app.simulator.open("counted");
    await stream.rest();
    expect((await turnRow(app, requestId)).webSearches).toBe(1);
  });

  test("one call whose start the provider repeats is one call", async () => {
    const start = { event: "response.web_search_call.searching", data: { item_id: "ws_1" } };
    const { stream } = await begin({ events: [start, start, start, start, { text: "x" }] });
    const events = await stream.rest();
    expect(events.filter((event) => event.event === "tool")).toHaveLength(1);
    expect(events.at(-1)?.event).toBe("done");
  });
});

interface Limit {
  readonly tool: string;
  readonly scenario: readonly ScenarioEvent[];
  readonly allowed: number;
  readonly code: string;
  readonly caller: Caller;
  readonly counted: object;
}

const limits: readonly Limit[] = [
  {
    tool: "web_search",
    scenario: [...search, ...search, { text: "so " }, ...search],
    allowed: 2,
    code: "web_search_calls_exceeded",
    caller: callers.amy,
    counted: { web: 2, code: 0, files: 0 },
  },
  {
    tool: "code_interpreter",
    scenario: [...Array.from({ length: 10 }, (_, at) => run(at)).flat(), ...run(10)],
    allowed: 10,
    code: "code_interpreter_calls_exceeded",
    caller: callers.bob,
    counted: { web: 0, code: 10, files: 0 },
  },
];

describe("calls per message (turns.md §8, quota.md §15.11)", () => {
  test.each(limits)(
    "$tool: call $allowed + 1 ends the turn, unseen, and closes the provider",
    async (limit) => {
      const scenario = { events: [...limit.scenario, { wait_for: "never" }] };
      const { requestId, stream } = await begin(scenario, limit.caller);
      const { id } = await turnRow(app, requestId);
      const events = await stream.rest();
      expect(events.filter((event) => event.event === "tool")).toHaveLength(2 * limit.allowed);
      expect(events.at(-1)).toEqual({
        event: "error",
        data: { code: limit.code, message: expect.any(String) },
      });
      const call = await app.simulator.waitForRequest((one) => one.headers["x-request-id"] === id);
      expect((await call.closed).by).toBe("client");
      expect(await ended(app, requestId)).toMatchObject({
        state: "failed",
        errorCode: limit.code,
        messageId: null,
      });
      expect((await eventsOf(app, requestId)).usage).toMatchObject({
        billing_outcome: "failed",
        settlement_method: "estimated",
        usage: null,
        error_code: limit.code,
      });
      expect(await callsOf(limit.caller)).toEqual(limit.counted);
      expect((await samples(app, "tool_call_limited_total")).get(`tool="${limit.tool}"`)).toBe(1);
    },
  );
});
