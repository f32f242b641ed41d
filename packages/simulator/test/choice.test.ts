import { describe, expect, test } from "vitest";
import {
  allTools,
  ask,
  at,
  dataOf,
  finalOf,
  object,
  post,
  readEvents,
  simulatorFor,
  stream,
  textOf,
} from "./support.ts";

const toolEvents = (events: readonly { name: string }[]): string[] =>
  events
    .map(({ name }) => name)
    .filter((name) => /_call\.(searching|in_progress|interpreting|completed)$/.test(name));

describe("the scenario for the text of the last user message (providers.md §11.2)", () => {
  test("PING answers PONG", async () => {
    expect(textOf(await stream(await simulatorFor(), "PING"))).toBe("PONG");
  });

  test("SEARCH:* searches the web and cites a URL", async () => {
    const events = await stream(await simulatorFor(), "SEARCH: cats", { tools: allTools });
    expect(toolEvents(events)).toEqual([
      "response.web_search_call.in_progress",
      "response.web_search_call.searching",
      "response.web_search_call.completed",
    ]);
    expect(textOf(events)).not.toBe("");
    const annotations = at(finalOf(events), "output", 0, "content", 0, "annotations");
    expect(annotations).toMatchObject([{ type: "url_citation", url: expect.stringMatching(/^https:/) }]);
  });

  test("FILESEARCH:* finds one file and cites it", async () => {
    const events = await stream(await simulatorFor(), "FILESEARCH:", { tools: allTools });
    expect(toolEvents(events)).toEqual([
      "response.file_search_call.in_progress",
      "response.file_search_call.searching",
      "response.file_search_call.completed",
    ]);
    const done = events.find(({ name }) => name === "response.file_search_call.completed");
    expect(dataOf(done)["results"]).toHaveLength(1);
    expect(at(finalOf(events), "output", 1, "content", 0, "annotations", 0, "type")).toBe("file_citation");
  });

  test("CODEINTERP:* runs a program with logs and then answers", async () => {
    const events = await stream(await simulatorFor(), "CODEINTERP: 6*7", { tools: allTools });
    expect(toolEvents(events)).toEqual([
      "response.code_interpreter_call.in_progress",
      "response.code_interpreter_call.interpreting",
      "response.code_interpreter_call.completed",
    ]);
    const done = events.find(({ name }) => name === "response.code_interpreter_call.completed");
    expect(at(dataOf(done), "outputs", 0, "type")).toBe("logs");
    const names = events.map(({ name }) => name);
    expect(names.indexOf("response.output_text.delta")).toBeGreaterThan(
      names.indexOf("response.code_interpreter_call.completed"),
    );
  });

  test("Write* writes seven deltas, 300 ms apart", async () => {
    const simulator = await simulatorFor();
    const response = await post(simulator, "/v1/responses", ask("Write a text"));
    const times: number[] = [];
    for await (const part of response.body ?? []) {
      const deltas = readEvents(Buffer.from(part)).filter(({ name }) => name.endsWith("text.delta"));
      times.push(...deltas.map(() => performance.now()));
    }
    expect(times).toHaveLength(7);
    const [first = 0, last = 0] = [times[0], times.at(-1)];
    // Timers may be a little early by this clock.
    expect(last - first).toBeGreaterThanOrEqual(6 * 300 - 20);
  });

  test("ERROR sends one delta and fails", async () => {
    const events = await stream(await simulatorFor(), "ERROR");
    expect(events.filter(({ name }) => name.endsWith("text.delta"))).toHaveLength(1);
    expect(events.at(-1)?.name).toBe("response.failed");
    expect(finalOf(events)).toMatchObject({ status: "failed", error: { code: "server_error" } });
  });

  test("TRUNCATE ends incomplete", async () => {
    const events = await stream(await simulatorFor(), "TRUNCATE");
    expect(textOf(events)).not.toBe("");
    expect(events.at(-1)?.name).toBe("response.incomplete");
    expect(finalOf(events)["incomplete_details"]).toEqual({ reason: "max_output_tokens" });
  });

  test.each(["hello", "ping", "PING ", "a SEARCH: b", ""])("%j gets the default", async (text) => {
    const events = await stream(await simulatorFor(), text, { tools: allTools });
    expect(events.filter(({ name }) => name.endsWith("text.delta"))).toHaveLength(2);
    expect(toolEvents(events)).toEqual([]);
    expect(finalOf(events)).toMatchObject({
      status: "completed",
      usage: { input_tokens: 50, output_tokens: 12 },
    });
  });

  test("only the last user message decides", async () => {
    const message = (role: string, text: string): object => ({ type: "message", role, content: text });
    const input = [message("user", "ERROR"), message("assistant", "TRUNCATE"), message("user", "PING")];
    const simulator = await simulatorFor();
    const response = await post(simulator, "/v1/responses", { input: [...input, message("assistant", "x")] });
    expect(at(await response.json(), "output", 0, "content", 0, "text")).toBe("PONG");
  });

  test("input that is one string is a user message", async () => {
    const response = await post(await simulatorFor(), "/v1/responses", { model: "m", input: "PING" });
    expect(at(await response.json(), "output", 0, "content", 0, "text")).toBe("PONG");
  });

  test("the programmed default takes the place of the usual one, not of the table's rows", async () => {
    const simulator = await simulatorFor();
    simulator.setDefault({ events: [{ text: "mine" }] });
    expect(textOf(await stream(simulator, "hello"))).toBe("mine");
    expect(textOf(await stream(simulator, "PING"))).toBe("PONG");
    simulator.setDefault(null);
    expect(textOf(await stream(simulator, "hello"))).toBe("Hello from the simulator.");
  });
});

describe("what comes before the text", () => {
  test("the queue first, each of it once and in order, then the header, then the text", async () => {
    const simulator = await simulatorFor({ events: [{ text: "one" }] }, { events: [{ text: "two" }] });
    const answers: string[] = [];
    for (let n = 0; n < 4; n += 1) {
      const headers = n < 3 ? { "x-sim-scenario": "truncate" } : undefined;
      const response = await post(simulator, "/v1/responses", ask("PING"), headers);
      const events = readEvents(Buffer.from(await response.arrayBuffer()));
      answers.push(events.at(-1)?.name === "response.incomplete" ? "truncate" : textOf(events));
    }
    expect(answers).toEqual(["one", "two", "truncate", "PONG"]);
  });

  test("an unknown name in the header is refused with the known ones", async () => {
    const response = await post(await simulatorFor(), "/v1/responses", ask("x"), { "x-sim-scenario": "no" });
    expect(response.status).toBe(400);
    expect(at(await response.json(), "error", "message")).toMatch(/"no" is unknown.*ping.*default/);
  });

  test("storage calls consume nothing", async () => {
    const simulator = await simulatorFor({ events: [{ text: "kept" }] });
    await fetch(`${simulator.url}/v1/files`);
    expect(textOf(await stream(simulator, "x"))).toBe("kept");
  });
});

describe("what depends on the request", () => {
  test.each([
    ["SEARCH:", "web_search"],
    ["FILESEARCH:", "file_search"],
    ["CODEINTERP:", "code_interpreter"],
  ])("%s without the tool has text, but no tool event and no citation", async (text, missing) => {
    const tools = allTools.filter(({ type }) => type !== missing);
    const events = await stream(await simulatorFor(), text, { tools });
    expect(toolEvents(events)).toEqual([]);
    expect(textOf(events)).not.toBe("");
    expect(at(finalOf(events), "output")).toMatchObject([
      { type: "message", content: [{ annotations: [] }] },
    ]);
  });

  test("citations of a scenario without tool events are sent in any case", async () => {
    const citation = { type: "url_citation", url: "https://example.com" };
    const events = await stream(await simulatorFor({ citations: [citation] }), "x");
    expect(at(finalOf(events), "output", 0, "content", 0, "annotations")).toEqual([citation]);
  });

  test.each([0, 1, 3, 40])("%i earlier messages make the input grow by 50 tokens each", async (earlier) => {
    const message = { type: "message", role: "user", content: "x" };
    const events = await stream(await simulatorFor(), "", { input: Array(earlier + 1).fill(message) });
    expect(at(finalOf(events), "usage", "input_tokens")).toBe(50 * (earlier + 1));
  });

  test("answers are numbered, and equal requests have equal answers after a reset", async () => {
    const simulator = await simulatorFor();
    const first = await stream(simulator, "x");
    const second = await stream(simulator, "x");
    expect([finalOf(first)["id"], finalOf(second)["id"]]).toEqual(["resp_mock_1", "resp_mock_2"]);
    simulator.reset();
    expect(await stream(simulator, "x")).toEqual(first);
  });

  test("many at once get their own answers", async () => {
    const simulator = await simulatorFor();
    const texts = Array.from({ length: 50 }, (_none, n) => (n % 2 === 0 ? "PING" : "other"));
    const answers = await Promise.all(texts.map((text) => stream(simulator, text)));
    expect(answers.map(textOf)).toEqual(
      texts.map((text) => (text === "PING" ? "PONG" : "Hello from the simulator.")),
    );
    expect(new Set(answers.map((events) => finalOf(events)["id"])).size).toBe(50);
  });

  test("without a stream the answer is one object", async () => {
    const response = await post(
      await simulatorFor(),
      "/v1/responses",
      ask("SEARCH:", { stream: false, tools: allTools }),
    );
    expect(response.headers.get("content-type")).toBe("application/json");
    expect(object(await response.json())).toMatchObject({
      object: "response",
      status: "completed",
      output: [{ type: "message" }, { type: "web_search_call", status: "completed" }],
    });
  });
});
