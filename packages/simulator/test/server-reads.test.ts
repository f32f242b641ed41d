import { describe, expect, test } from "vitest";
import type { ProviderEvent, ProviderOutcome } from "../../server/src/providers/contract.ts";
import { drain, entry, registryOf, request, stream, textOf } from "../../server/test/providers/support.ts";
import { builtinScenarios, type Scenario, type Simulator } from "../src/index.ts";
import { allTools, ask, post, readEvents, type SseEvent, simulatorFor } from "./support.ts";

const chunkings: readonly NonNullable<Scenario["chunking"]>[] = [
  "event",
  "byte",
  "random",
  ...Array.from({ length: 10 }, (_none, seed) => ({ random: seed + 2 })),
];

/** Without its delays, which would only make the test slow. */
const builtins: readonly [string, Scenario][] = Object.entries(builtinScenarios).map(([name, scenario]) => [
  name,
  { ...scenario, event_delay_ms: 0 },
]);

const eventsOf = async (simulator: Simulator, path: string, scenario: Scenario): Promise<SseEvent[]> => {
  simulator.reset();
  simulator.enqueue(scenario);
  const body = ask("x", { tools: allTools, messages: [{ role: "user", content: "x" }] });
  return readEvents(Buffer.from(await (await post(simulator, path, body)).arrayBuffer()));
};

describe("the server's reader finds the same events however a built-in scenario is cut", () => {
  const paths = ["/v1/responses", "/v1/chat/completions", "/v1/messages"];

  test.each(paths.flatMap((path) => builtins.map(([name, scenario]) => [path, name, scenario] as const)))(
    "%s %s",
    async (path, _name, scenario) => {
      const simulator = await simulatorFor();
      const whole = await eventsOf(simulator, path, scenario);
      expect(whole.length).toBeGreaterThan(2);
      for (const chunking of chunkings) {
        expect(await eventsOf(simulator, path, { ...scenario, chunking })).toEqual(whole);
      }
      expect(await eventsOf(simulator, path, { ...scenario, malformed: "crlf", chunking: "byte" })).toEqual(
        whole,
      );
    },
  );

  test("characters and tags of several bytes", async () => {
    const simulator = await simulatorFor();
    const scenario: Scenario = { events: [{ text: "ä€😀 <thi" }, { text: "nk>日本語</think>" }] };
    const whole = await eventsOf(simulator, "/v1/responses", scenario);
    for (const chunking of chunkings) {
      expect(await eventsOf(simulator, "/v1/responses", { ...scenario, chunking })).toEqual(whole);
    }
  });
});

/** Asks through the server's own adapter for the Responses API. */
const throughAdapter = async (
  text: string,
  scenario?: Scenario,
): Promise<{ events: ProviderEvent[]; outcome: ProviderOutcome }> => {
  const simulator = await simulatorFor(...(scenario === undefined ? [] : [scenario]));
  const registry = registryOf({ p: entry(simulator.port) });
  try {
    return await drain(
      stream(registry, undefined, {
        messages: [{ role: "user", content: [{ text }] }],
        tools: [
          { kind: "web_search", searchContextSize: "low" },
          { kind: "file_search", vectorStoreIds: ["vs"] },
          { kind: "code_interpreter", fileIds: [] },
        ],
      }),
    );
  } finally {
    await registry.close();
  }
};

const tools = (events: readonly ProviderEvent[]): unknown[] =>
  events.flatMap((event) => (event.type === "tool" ? [[event.name, event.phase, event.details]] : []));

const usage = {
  inputTokens: 50,
  outputTokens: 12,
  cacheReadInputTokens: 0,
  cacheWriteInputTokens: 0,
  reasoningTokens: 0,
};

describe("the server's adapter understands (providers.md §2.1)", () => {
  test("text and usage", async () => {
    const { events, outcome } = await throughAdapter("PING");
    expect(textOf(events)).toBe("PONG");
    expect(outcome).toEqual({ kind: "completed", usage, responseId: "resp_mock_1", citations: [] });
  });

  test.each([
    [
      "SEARCH: x",
      [
        ["web_search", "start", {}],
        ["web_search", "done", {}],
      ],
      { source: "web" },
    ],
    [
      "FILESEARCH: x",
      [
        ["file_search", "start", {}],
        ["file_search", "done", { files_searched: 1 }],
      ],
      { source: "file", providerFileId: "file-mock-none" },
    ],
    [
      "CODEINTERP: x",
      [
        ["code_interpreter", "start", {}],
        ["code_interpreter", "done", { output: "42\n" }],
      ],
      null,
    ],
  ])("%s", async (text, expected, citation) => {
    const { events, outcome } = await throughAdapter(text);
    expect(tools(events)).toEqual(expected);
    expect(outcome).toMatchObject({ kind: "completed", citations: citation === null ? [] : [citation] });
  });

  test("ERROR and TRUNCATE", async () => {
    expect((await throughAdapter("ERROR")).outcome).toMatchObject({
      kind: "failed",
      code: "provider_error",
      message: "The simulated model failed.",
    });
    expect((await throughAdapter("TRUNCATE")).outcome).toMatchObject({
      kind: "incomplete",
      reason: "max_tokens",
      usage,
    });
  });

  test.each<[string, Scenario, object]>([
    ["broken JSON", { events: [{ text: "a" }], malformed: "broken_json" }, { code: "provider_error" }],
    ["invalid UTF-8", { events: [{ text: "a" }], malformed: "invalid_utf8" }, { code: "provider_error" }],
    ["an early end", { terminal: "none" }, { code: "provider_error" }],
    ["a reset", { events: [{ text: "a" }], drop_after: 1 }, { code: "provider_error" }],
    ["429", { http_status: 429 }, { code: "rate_limited" }],
    ["504", { http_status: 504 }, { code: "provider_timeout" }],
  ])("%s as a failure", async (_case, scenario, error) => {
    expect((await throughAdapter("x", scenario)).outcome).toMatchObject({ kind: "failed", ...error });
  });

  test.each<[string, Scenario]>([
    ["unknown events", { malformed: "unknown_events" }],
    ["no blank lines", { malformed: "missing_blank_line" }],
    ["CRLF", { malformed: "crlf" }],
    ["trailing events", { trailing_events: [{ text: "late" }, { event: "error", data: "{" }] }],
  ])("%s without harm", async (_case, scenario) => {
    const { events, outcome } = await throughAdapter("x", {
      events: [{ text: "a" }, { text: "b" }],
      ...scenario,
    });
    expect([textOf(events), outcome.kind]).toEqual(["ab", "completed"]);
  });

  test("an answer that is not streamed", async () => {
    const simulator = await simulatorFor();
    const registry = registryOf({ p: entry(simulator.port) });
    const target = registry.resolve("p", request().userIdentity.tenantId);
    if (target === null) throw new Error("not configured");
    const signal = new AbortController().signal;
    const answer = await registry.adapter(target).complete(request(), target, signal);
    await registry.close();
    expect(answer).toMatchObject({ content: "Hello from the simulator.", usage, responseId: "resp_mock_1" });
  });
});

test("an abort of the server is seen within 200 ms (turns.md §9)", async () => {
  const simulator = await simulatorFor({ events: [{ text: "a" }], hang_after: 1 });
  const registry = registryOf({ p: entry(simulator.port) });
  const controller = new AbortController();
  const running = stream(registry, controller.signal);
  const outcome = drain(running);
  const captured = await simulator.waitForRequest();
  const aborted = Date.now();
  controller.abort();
  const closed = await captured.closed;
  expect((await outcome).outcome).toEqual({ kind: "aborted", started: true });
  await registry.close();
  expect(closed.by).toBe("client");
  expect(closed.at - aborted).toBeLessThan(200);
});
