import { describe, expect, test } from "vitest";
import type { Scenario } from "../src/index.ts";
import {
  allTools,
  ask,
  at,
  dataOf,
  finalOf,
  post,
  rawCall,
  readEvents,
  simulatorFor,
  stream,
  textOf,
} from "./support.ts";

const played = async (scenario: Scenario) => stream(await simulatorFor(scenario), "x", { tools: allTools });

describe("events", () => {
  test("are sent in order, each in the form of the API", async () => {
    const events = await played({
      events: [
        { reasoning: "hm" },
        { tool: "web_search", phase: "start" },
        { tool: "web_search", phase: "done" },
        { text: "a" },
        { event: "response.custom", data: { answer: 42 } },
        { event: "response.broken", data: "{" },
        { text: "b" },
      ],
    });
    expect(events.map(({ name }) => name)).toEqual([
      "response.created",
      "response.in_progress",
      "response.output_item.added",
      "response.reasoning_summary_text.delta",
      "response.output_item.added",
      "response.web_search_call.in_progress",
      "response.web_search_call.searching",
      "response.web_search_call.completed",
      "response.output_item.done",
      "response.output_item.added",
      "response.content_part.added",
      "response.output_text.delta",
      "response.custom",
      "response.broken",
      "response.output_text.delta",
      "response.reasoning_summary_text.done",
      "response.output_item.done",
      "response.output_text.done",
      "response.content_part.done",
      "response.output_item.done",
      "response.completed",
    ]);
    expect(events[12]?.data).toBe('{"type":"response.custom","answer":42}');
    expect(events[13]?.data).toBe("{");
    expect(at(finalOf(events), "output")).toMatchObject([
      { type: "reasoning", summary: [{ type: "summary_text", text: "hm" }] },
      { type: "web_search_call", status: "completed" },
      { type: "message", status: "completed", content: [{ type: "output_text", text: "ab" }] },
    ]);
  });

  test("sequence numbers rise by one", async () => {
    const events = await played({ events: [{ text: "a" }], repeat: { count: 3, bytes: 2 } });
    expect(events.map((event) => dataOf(event)["sequence_number"])).toEqual(events.map((_event, n) => n));
  });

  test("raw text deltas are part of the answer", async () => {
    const events = await played({
      events: [{ event: "response.output_text.delta", data: { delta: "raw" } }],
    });
    expect(at(finalOf(events), "output", 0, "content", 0, "text")).toBe("raw");
  });

  test("raw bytes are no event of ours", async () => {
    const events = await played({ events: [{ raw: ": a comment\n\ndata: mine\n\n" }] });
    expect(events).toContainEqual({ name: "", data: "mine" });
  });

  test("a started call repeats its start; after its end comes another call", async () => {
    const start = { tool: "web_search", phase: "start" } as const;
    const events = await played({ events: [start, start, { ...start, phase: "done" }, start] });
    const ids = events
      .filter(({ name }) => name === "response.web_search_call.searching")
      .map((event) => dataOf(event)["item_id"]);
    expect(ids).toEqual(["ws_mock_1_0", "ws_mock_1_0", "ws_mock_1_1"]);
  });

  test("tools carry their results", async () => {
    const results = [{ file_id: "f", score: 1 }];
    const outputs = [{ type: "logs", logs: "1" }];
    const events = await played({
      events: [
        { tool: "file_search", phase: "done", results },
        { tool: "code_interpreter", phase: "done", outputs },
      ],
    });
    const done = events.filter(({ name }) => name.endsWith("_call.completed")).map(dataOf);
    expect(done).toMatchObject([{ results }, { outputs }]);
  });
});

describe("terminal", () => {
  test.each<[Scenario, string, object]>([
    [{}, "response.completed", { status: "completed", error: null, incomplete_details: null }],
    [{ terminal: "failed" }, "response.failed", { status: "failed", error: { code: "server_error" } }],
    [
      { error: { code: "rate_limit_exceeded", message: "see https://x.example for resp_1" } },
      "response.failed",
      { error: { code: "rate_limit_exceeded", message: "see https://x.example for resp_1" } },
    ],
    [
      { terminal: "incomplete" },
      "response.incomplete",
      { incomplete_details: { reason: "max_output_tokens" } },
    ],
    [
      { incomplete_reason: "content_filter" },
      "response.incomplete",
      { status: "incomplete", incomplete_details: { reason: "content_filter" } },
    ],
    [{ terminal: "completed", error: { message: "ignored" } }, "response.completed", { error: null }],
  ])("of %j", async (scenario, name, response) => {
    const simulator = await simulatorFor(scenario, scenario);
    const events = await stream(simulator, "x");
    expect(events.at(-1)?.name).toBe(name);
    expect(finalOf(events)).toMatchObject(response);
    const whole = await post(simulator, "/v1/responses", ask("x", { stream: false }));
    expect(await whole.json()).toMatchObject(response);
  });
});

describe("usage", () => {
  test.each<[Scenario["usage"], unknown]>([
    [undefined, [50, 12, 0, 0]],
    [{ input_tokens: 7 }, [7, 12, 0, 0]],
    [{ output_tokens: 9, cache_read_input_tokens: 8, reasoning_tokens: 3 }, [50, 9, 8, 3]],
    ["zero", [0, 0, 0, 0]],
  ])("%j", async (usage, expected) => {
    const wire = finalOf(await played(usage === undefined ? {} : { usage }))["usage"];
    expect([
      at(wire, "input_tokens"),
      at(wire, "output_tokens"),
      at(wire, "input_tokens_details", "cached_tokens"),
      at(wire, "output_tokens_details", "reasoning_tokens"),
    ]).toEqual(expected);
  });

  test("absent leaves no trace, also of a failure", async () => {
    for (const scenario of [{ usage: "absent" }, { usage: "absent", terminal: "failed" }] as const) {
      expect(finalOf(await played(scenario))).not.toHaveProperty("usage");
    }
    expect(finalOf(await played({ terminal: "failed" }))).toHaveProperty("usage");
  });
});

describe("plain answers", () => {
  test.each([401, 429, 500, 503, 504])(
    "status %i with a body of the provider and headers",
    async (status) => {
      const simulator = await simulatorFor({ http_status: status, headers: { "retry-after": "3" } });
      const response = await post(simulator, "/v1/responses", ask("x"));
      expect([response.status, response.headers.get("retry-after")]).toEqual([status, "3"]);
      expect(at(await response.json(), "error", "message")).toEqual(expect.any(String));
    },
  );

  test("a text body is sent as it is, another one as JSON", async () => {
    const simulator = await simulatorFor(
      { http_body: "<html>" },
      { http_status: 400, http_body: { code: "c" } },
    );
    const text = await post(simulator, "/v1/responses", ask("x"));
    expect([text.status, text.headers.get("content-type"), await text.text()]).toEqual([
      200,
      "text/plain; charset=utf-8",
      "<html>",
    ]);
    const json = await post(simulator, "/v1/responses", ask("x"));
    expect([json.status, await json.json()]).toEqual([400, { code: "c" }]);
  });

  test("headers go along with a stream, too", async () => {
    const simulator = await simulatorFor({
      headers: { "x-mine": "1", "content-type": "text/event-stream; x=y" },
    });
    const response = await post(simulator, "/v1/responses", ask("x"));
    expect([response.headers.get("x-mine"), response.headers.get("content-type")]).toEqual([
      "1",
      "text/event-stream; x=y",
    ]);
    expect(response.headers.get("x-request-id")).toBe("req_mock_1");
  });
});

describe("gates", () => {
  test("an event waits until its gate is opened", async () => {
    const simulator = await simulatorFor({ events: [{ text: "a" }, { wait_for: "go" }, { text: "b" }] });
    const running = rawCall(simulator, ask("x"));
    await running.until((text) => text.includes('"delta":"a"'));
    await simulator.arrived("go");
    expect(simulator.state().waiting_gates).toEqual(["go"]);
    expect(running.text()).not.toContain('"delta":"b"');
    simulator.open("go");
    await running.closed;
    expect(running.text()).toContain('"delta":"b"');
    expect(simulator.state()).toMatchObject({ open_gates: ["go"], waiting_gates: [] });
  });

  test("the gate of a scenario holds back its headers", async () => {
    const simulator = await simulatorFor({ gate: "go" });
    const running = rawCall(simulator, ask("x"));
    await simulator.arrived("go");
    expect(running.text()).toBe("");
    simulator.open("go");
    await running.closed;
    expect(running.text()).toContain("response.completed");
  });

  test("an open gate lets everyone through until the reset", async () => {
    const gated: Scenario = { events: [{ wait_for: "go" }, { text: "a" }] };
    const simulator = await simulatorFor(gated, gated);
    simulator.open("go");
    expect(textOf(await stream(simulator, "x"))).toBe("a");
    expect(textOf(await stream(simulator, "x"))).toBe("a");
    simulator.reset();
    expect(simulator.state().open_gates).toEqual([]);
  });

  test("all who wait at one gate go on together, those at another do not", async () => {
    const simulator = await simulatorFor({ gate: "one" }, { gate: "one" }, { gate: "two" });
    const calls = [1, 2, 3].map(() => post(simulator, "/v1/responses", ask("x")));
    await simulator.arrived("two");
    expect(simulator.state().waiting_gates).toEqual(["one", "two"]);
    simulator.open("one");
    await Promise.race(calls);
    expect(simulator.state().waiting_gates).toEqual(["two"]);
    simulator.open("two");
    await Promise.all(calls);
  });

  test("a wait is not counted as an event", async () => {
    const simulator = await simulatorFor({
      events: [{ wait_for: "go" }, { text: "a" }, { text: "b" }],
      drop_after: 1,
    });
    simulator.open("go");
    const running = rawCall(simulator, ask("x"));
    expect(await running.closed).toBe("reset");
    expect(textOf(readEvents(running.text()))).not.toContain("b");
    expect((await simulator.waitForRequest()).deltasSent).toBe(1);
  });
});
