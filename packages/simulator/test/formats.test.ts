import { describe, expect, test } from "vitest";
import type { Scenario } from "../src/index.ts";
import { at, dataOf, object, post, readEvents, type SseEvent, simulatorFor } from "./support.ts";

const usage = {
  input_tokens: 100,
  output_tokens: 30,
  cache_read_input_tokens: 20,
  cache_write_input_tokens: 5,
  reasoning_tokens: 4,
};

const call = async (
  path: string,
  scenario: Scenario,
  more: Record<string, unknown> = {},
): Promise<{ status: number; events: SseEvent[]; body: string }> => {
  const messages = [{ role: "user", content: "x" }];
  const simulator = await simulatorFor(scenario);
  const response = await post(simulator, path, { model: "m", stream: true, messages, ...more });
  const body = await response.text();
  return { status: response.status, events: readEvents(body), body };
};

describe("Chat Completions (providers.md §3)", () => {
  const path = "/v1/chat/completions";
  const wanted = { stream_options: { include_usage: true } };

  test("text in chunks, the finish reason, usage without choices, the closing mark", async () => {
    const { events } = await call(path, { events: [{ text: "a" }, { text: "b" }], usage }, wanted);
    expect(events.every(({ name }) => name === "")).toBe(true);
    expect(events.at(-1)?.data).toBe("[DONE]");
    const chunks = events.slice(0, -1).map(dataOf);
    expect(chunks.map((chunk) => at(chunk, "choices", 0, "delta", "content"))).toEqual([
      "",
      "a",
      "b",
      undefined,
      undefined,
    ]);
    expect(chunks.every(({ id }) => id === "resp_mock_1")).toBe(true);
    expect(at(chunks[3], "choices", 0, "finish_reason")).toBe("stop");
    expect(chunks[4]).toMatchObject({
      choices: [],
      usage: {
        prompt_tokens: 100,
        completion_tokens: 30,
        total_tokens: 130,
        prompt_tokens_details: { cached_tokens: 20 },
        completion_tokens_details: { reasoning_tokens: 4 },
      },
    });
  });

  test("usage only when asked for", async () => {
    const { body } = await call(path, {});
    expect(body).not.toContain("prompt_tokens");
    expect(body).toContain("[DONE]");
  });

  test.each([
    ["max_output_tokens", "length"],
    ["content_filter", "content_filter"],
  ])("incomplete for %s finishes with %s", async (incomplete_reason, finish) => {
    const { events } = await call(path, { incomplete_reason });
    expect(at(dataOf(events.at(-2)), "choices", 0, "finish_reason")).toBe(finish);
  });

  test("a failure is an error object in place of the rest", async () => {
    const { events } = await call(path, { error: { code: "c", message: "m" } }, wanted);
    expect(dataOf(events.at(-1))).toMatchObject({ error: { code: "c", message: "m" } });
  });

  test("terminal none ends without a finish reason and mark", async () => {
    const { events } = await call(path, { events: [{ text: "a" }], terminal: "none" });
    expect(at(dataOf(events.at(-1)), "choices", 0, "delta", "content")).toBe("a");
  });

  test("tools and reasoning have no form here", async () => {
    const { events } = await call(
      path,
      { events: [{ tool: "web_search", phase: "start" }, { reasoning: "r" }] },
      { tools: [{ type: "web_search" }] },
    );
    expect(events).toHaveLength(3);
  });

  test("without a stream, also a failure", async () => {
    const done = await call(path, { events: [{ text: "a" }, { text: "b" }], usage }, { stream: false });
    expect(JSON.parse(done.body)).toMatchObject({
      object: "chat.completion",
      choices: [{ message: { role: "assistant", content: "ab" }, finish_reason: "stop" }],
      usage: { prompt_tokens: 100 },
    });
    const failed = await call(path, { error: { message: "m" } }, { stream: false });
    expect([failed.status, at(JSON.parse(failed.body), "error", "message")]).toEqual([500, "m"]);
  });

  test("all of a conversation counts as input", async () => {
    const messages = ["system", "user", "assistant", "user"].map((role) => ({ role, content: "x" }));
    const { body } = await call(path, {}, { stream: false, messages });
    expect(at(JSON.parse(body), "usage", "prompt_tokens")).toBe(200);
  });
});

describe("Anthropic Messages (providers.md §6)", () => {
  const path = "/v1/messages";

  test("text in one block between message start and stop", async () => {
    const { events } = await call(path, { events: [{ text: "a" }, { text: "b" }], usage });
    expect(events.map(({ name }) => name)).toEqual([
      "message_start",
      "ping",
      "content_block_start",
      "content_block_delta",
      "content_block_delta",
      "content_block_stop",
      "message_delta",
      "message_stop",
    ]);
    expect(events.every((event) => dataOf(event)["type"] === event.name)).toBe(true);
    expect(dataOf(events[0])).toMatchObject({
      message: {
        id: "resp_mock_1",
        usage: { input_tokens: 75, cache_read_input_tokens: 20, cache_creation_input_tokens: 5 },
      },
    });
    expect(dataOf(events[3])).toMatchObject({ index: 0, delta: { type: "text_delta", text: "a" } });
    expect(dataOf(events[6])).toMatchObject({
      delta: { stop_reason: "end_turn" },
      usage: { output_tokens: 30 },
    });
  });

  test("thinking, the provider's own tools and text are blocks of their own", async () => {
    const scenario: Scenario = {
      events: [
        { reasoning: "hm" },
        { tool: "web_search", phase: "start" },
        { tool: "web_search", phase: "done" },
        { tool: "code_interpreter", phase: "start" },
        { tool: "code_interpreter", phase: "done" },
        { text: "a" },
      ],
    };
    const tools = [{ type: "web_search_20260209" }, { type: "code_execution_20250825" }];
    const { events } = await call(path, scenario, { tools });
    const blocks = events
      .filter(({ name }) => name === "content_block_start")
      .map((event) => at(dataOf(event), "content_block", "type"));
    expect(blocks).toEqual([
      "thinking",
      "server_tool_use",
      "web_search_tool_result",
      "server_tool_use",
      "code_execution_tool_result",
      "text",
    ]);
    const indexes = events
      .filter(({ name }) => name === "content_block_stop")
      .map((event) => dataOf(event)["index"]);
    expect(indexes).toEqual([0, 1, 2, 3, 4, 5]);
    const without = await call(path, scenario);
    expect(without.body).not.toContain("server_tool_use");
  });

  test.each([
    ["max_output_tokens", "max_tokens"],
    ["content_filter", "refusal"],
    ["pause_turn", "pause_turn"],
  ])("incomplete for %s stops with %s", async (incomplete_reason, stop) => {
    const { events } = await call(path, { incomplete_reason });
    expect(at(dataOf(events.at(-2)), "delta", "stop_reason")).toBe(stop);
  });

  test("a failure is an error event", async () => {
    const { events } = await call(path, {
      events: [{ text: "a" }],
      error: { code: "overloaded_error", message: "m" },
    });
    expect(events.at(-1)?.name).toBe("error");
    expect(dataOf(events.at(-1))["error"]).toEqual({ type: "overloaded_error", message: "m" });
  });

  test("without a stream, also a failure", async () => {
    const done = await call(path, { events: [{ text: "a" }], usage }, { stream: false });
    expect(JSON.parse(done.body)).toMatchObject({
      type: "message",
      content: [{ type: "text", text: "a" }],
      stop_reason: "end_turn",
      usage: { input_tokens: 75, output_tokens: 30 },
    });
    const failed = await call(path, { error: { code: "api_error" } }, { stream: false });
    expect([failed.status, object(JSON.parse(failed.body))["type"]]).toEqual([500, "error"]);
  });
});
