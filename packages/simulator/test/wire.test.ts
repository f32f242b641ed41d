import { describe, expect, test } from "vitest";
import type { Scenario } from "../src/index.ts";
import {
  ask,
  chunksOf,
  dataOf,
  finalOf,
  post,
  type RawCall,
  rawCall,
  readEvents,
  simulatorFor,
  textOf,
} from "./support.ts";

const call = async (scenario: Scenario, more: Record<string, unknown> = {}): Promise<RawCall> =>
  rawCall(await simulatorFor(scenario), ask("x", more));

const bodyOf = (wire: string): Buffer => Buffer.from(chunksOf(wire).join(""), "latin1");

/** The whole response of a scenario, as bytes on the wire. */
const wireOf = async (scenario: Scenario, more: Record<string, unknown> = {}): Promise<string> => {
  const running = await call(scenario, more);
  await running.closed;
  return running.text();
};

const texts = (...all: readonly string[]): { text: string }[] => all.map((text) => ({ text }));

describe("chunking", () => {
  test("nothing that can be joined is written apart", async () => {
    expect(chunksOf(await wireOf({ events: texts("a", "b", "c") }))).toHaveLength(1);
  });

  test("a load of deltas without an interval is one write", async () => {
    const chunks = chunksOf(await wireOf({ repeat: { count: 1_000, bytes: 20 } }));
    expect(chunks).toHaveLength(1);
    const deltas = readEvents(chunks.join("")).filter(({ name }) => name.endsWith("text.delta"));
    expect(deltas.map((event) => String(dataOf(event)["delta"]).length)).toEqual(Array(1_000).fill(20));
  });

  test("per event", async () => {
    const chunks = chunksOf(await wireOf({ events: texts("ä", "b"), chunking: "event" }));
    expect(chunks.length).toBeGreaterThan(5);
    for (const chunk of chunks) expect(chunk).toMatch(/^event: [^\n]+\ndata: [^\n]+\n\n$/);
  });

  test("per byte, in the middle of characters too", async () => {
    const chunks = chunksOf(await wireOf({ events: texts("äöü€😀 <think>"), chunking: "byte" }));
    expect(chunks.every((chunk) => chunk.length === 1)).toBe(true);
    expect(textOf(readEvents(Buffer.from(chunks.join(""), "latin1")))).toBe("äöü€😀 <think>");
  });

  test("per byte, the pieces do not arrive together", async () => {
    const running = await call({ chunking: "byte" });
    await running.closed;
    expect(running.reads.length).toBeGreaterThan(chunksOf(running.text()).length / 10);
  });

  test("random, the same for the same seed", async () => {
    const cut = async (seed: number): Promise<number[]> =>
      chunksOf(await wireOf({ events: texts("some text"), chunking: { random: seed } })).map(
        ({ length }) => length,
      );
    const [first, again, other] = [await cut(7), await cut(7), await cut(8)];
    expect(first).toEqual(again);
    expect(first).not.toEqual(other);
    expect(new Set(first).size).toBeGreaterThan(5);
  });

  test("an answer that is not streamed is cut too", async () => {
    const wire = await wireOf({ events: texts("a"), chunking: "byte" }, { stream: false });
    const body = wire.slice(wire.indexOf("\r\n\r\n") + 4);
    expect(JSON.parse(body)).toMatchObject({ status: "completed" });
  });
});

describe("slow_loris", () => {
  test("sends one byte per interval", async () => {
    const running = await call({ http_body: "0123456789", slow_loris: { interval_ms: 15 } });
    await running.closed;
    expect(running.text()).toMatch(/0123456789$/);
    const [first, last] = [running.reads[1], running.reads.at(-1)];
    expect(running.reads.length).toBeGreaterThanOrEqual(10);
    expect((last?.at ?? 0) - (first?.at ?? 0)).toBeGreaterThanOrEqual(8 * 15 - 10);
  });
});

describe("drop_after", () => {
  test.each([0, 1, 2])("%i events, then a reset", async (n) => {
    const running = await call({ events: texts("a", "b", "c"), drop_after: n });
    expect(await running.closed).toBe("reset");
    const events = readEvents(bodyOf(running.text()));
    expect(textOf(events)).toBe("abc".slice(0, n));
    expect(events[0]?.name).toBe("response.created");
  });

  test("the events of repeat count too", async () => {
    const running = await call({
      events: texts("a"),
      repeat: { count: 10, bytes: 1 },
      drop_after: { events: 3 },
    });
    expect(await running.closed).toBe("reset");
    expect(textOf(readEvents(bodyOf(running.text())))).toBe("all");
  });

  test.each([1, 100, 333])("%i bytes of the body, then a reset", async (bytes) => {
    const running = await call({ events: texts("a".repeat(500)), drop_after: { bytes } });
    expect(await running.closed).toBe("reset");
    expect(bodyOf(running.text())).toHaveLength(bytes);
  });

  test("bytes count in plain answers and whole answers as well", async () => {
    for (const [scenario, more] of [
      [{ http_status: 500, http_body: "0123456789", drop_after: { bytes: 4 } }, {}],
      [{ events: texts("a"), drop_after: { bytes: 4 } }, { stream: false }],
    ] as const) {
      const running = await call(scenario, more);
      expect(await running.closed).toBe("reset");
      expect(running.text().split("\r\n\r\n")[1]).toHaveLength(4);
    }
  });

  test("it is recorded as the server's doing", async () => {
    const simulator = await simulatorFor({ events: texts("a", "b"), drop_after: 1 });
    await rawCall(simulator, ask("x")).closed;
    expect(await (await simulator.waitForRequest()).closed).toMatchObject({ by: "server", deltasSent: 1 });
  });
});

describe("hang_after", () => {
  test.each([0, 1, 2])("%i events, then silence on an open connection", async (n) => {
    const simulator = await simulatorFor({ events: texts("a", "b"), hang_after: n });
    const running = rawCall(simulator, ask("x"));
    await running.until(
      (text) => textOf(readEvents(bodyOf(text))).length === n && text.includes("response.created"),
    );
    // Another whole answer comes and goes meanwhile.
    await (await post(simulator, "/v1/responses", ask("PING"))).text();
    expect(textOf(readEvents(bodyOf(running.text())))).toBe("ab".slice(0, n));
    expect(simulator.requests()[0]).toMatchObject({ closedAt: null, deltasSent: n });
    expect(running.socket.readyState).toBe("open");
  });

  test("an answer that is not streamed never begins", async () => {
    const simulator = await simulatorFor({ events: texts("a"), hang_after: 1 });
    const running = rawCall(simulator, ask("x", { stream: false }));
    await simulator.waitForRequest();
    await (await post(simulator, "/v1/responses", ask("PING"))).text();
    expect(running.text()).toBe("");
  });

  test("a plain answer hangs after its headers", async () => {
    const running = await call({ http_status: 503, http_body: "never", hang_after: 0 });
    await running.until((text) => text.endsWith("\r\n\r\n"));
    expect(running.text()).toMatch(/^HTTP\/1\.1 503 .*content-length: 5/is);
  });
});

describe("delays", () => {
  const timed = async (scenario: Scenario): Promise<{ head: number; body: number }> => {
    const started = performance.now();
    const running = await call(scenario);
    await running.until((text) => text.includes("\r\n\r\n"));
    const head = performance.now() - started;
    await running.closed;
    return { head, body: performance.now() - started - head };
  };

  test.each(["accept_delay_ms", "header_delay_ms"] as const)("%s comes before the headers", async (field) => {
    expect((await timed({ [field]: 80 })).head).toBeGreaterThanOrEqual(75);
  });

  test("an accept delay comes before the request is taken in, a header delay after it", async () => {
    const simulator = await simulatorFor({ accept_delay_ms: 80 }, { header_delay_ms: 80 });
    for (const early of [false, true]) {
      simulator.clearRequests();
      const sent = Date.now();
      const answering = post(simulator, "/v1/responses", ask("x"));
      const { receivedAt } = await simulator.waitForRequest();
      if (early) expect(Date.now() - sent).toBeLessThan(75);
      else expect(receivedAt - sent).toBeGreaterThanOrEqual(75);
      await (await answering).text();
      expect(Date.now() - sent).toBeGreaterThanOrEqual(75);
    }
  });

  test("event_delay_ms comes between events, an event's own delay in its place", async () => {
    const all = { events: texts("a", "b", "c"), event_delay_ms: 40 };
    expect((await timed(all)).body).toBeGreaterThanOrEqual(75);
    const own = {
      events: [
        { text: "a", delay_ms: 60 },
        { text: "b", delay_ms: 0 },
      ],
      event_delay_ms: 10_000,
    };
    const { head, body } = await timed(own);
    expect(head + body).toBeLessThan(5_000);
    expect(body).toBeGreaterThanOrEqual(50);
  });

  test("repeat keeps its rate", async () => {
    const { head, body } = await timed({ repeat: { count: 11, bytes: 5, interval_ms: 10 } });
    expect(head + body).toBeGreaterThanOrEqual(95);
  });

  test("the time of an answer that is not streamed passes before its headers", async () => {
    const simulator = await simulatorFor({ events: texts("a", "b"), event_delay_ms: 80 });
    const started = performance.now();
    await post(simulator, "/v1/responses", ask("x", { stream: false }));
    expect(performance.now() - started).toBeGreaterThanOrEqual(75);
  });
});

describe("malformed", () => {
  const events = texts("first", "second");

  test("broken_json cuts the last text delta", async () => {
    const all = readEvents(bodyOf(await wireOf({ events, malformed: "broken_json" })));
    const deltas = all.filter(({ name }) => name === "response.output_text.delta");
    expect(dataOf(deltas[0])["delta"]).toBe("first");
    expect(() => JSON.parse(deltas[1]?.data ?? "")).toThrow(SyntaxError);
    expect(all.at(-1)?.name).toBe("response.completed");
  });

  test("without a text it cuts the terminal event", async () => {
    const all = readEvents(bodyOf(await wireOf({ malformed: ["broken_json"] })));
    expect(() => JSON.parse(all.at(-1)?.data ?? "")).toThrow(SyntaxError);
  });

  test("invalid_utf8 in the last text delta", async () => {
    const body = bodyOf(await wireOf({ events, malformed: "invalid_utf8" }));
    expect(body.filter((byte) => byte === 0xff)).toHaveLength(1);
    expect(() => readEvents(body)).toThrow("invalid UTF-8");
    expect(body.toString("utf8")).toContain("first");
  });

  test("missing_blank_line", async () => {
    const body = bodyOf(await wireOf({ events, malformed: "missing_blank_line" }));
    expect(body.includes("\n\n")).toBe(false);
    expect(textOf(readEvents(body))).toBe("firstsecond");
  });

  test("crlf", async () => {
    const body = bodyOf(await wireOf({ events, malformed: "crlf" })).toString("utf8");
    expect(body.replaceAll("\r\n", "")).not.toMatch(/[\r\n]/);
    expect(textOf(readEvents(body))).toBe("firstsecond");
  });

  test("unknown_events before every event", async () => {
    const all = readEvents(bodyOf(await wireOf({ events, malformed: "unknown_events" })));
    expect(
      all.filter((_event, at) => at % 2 === 0).every(({ name }) => name === "response.simulated_unknown"),
    ).toBe(true);
    expect(textOf(all)).toBe("firstsecond");
  });

  test("several at once", async () => {
    const body = bodyOf(
      await wireOf({ events, malformed: ["crlf", "unknown_events", "broken_json", "invalid_utf8"] }),
    );
    expect(body.includes("\r\n")).toBe(true);
    expect(body.includes("simulated_unknown")).toBe(true);
    expect(body.includes(0xff)).toBe(true);
  });
});

describe("the end", () => {
  test("terminal none ends without a terminal event", async () => {
    const wire = await wireOf({ events: texts("a"), terminal: "none" });
    expect(readEvents(bodyOf(wire)).at(-1)?.name).toBe("response.output_text.delta");
    expect(wire.endsWith("0\r\n\r\n")).toBe(true);
  });

  test("of a whole answer half comes without a terminal", async () => {
    const wire = await wireOf({ events: texts("a"), terminal: "none" }, { stream: false });
    expect(() => JSON.parse(bodyOf(wire).toString("utf8"))).toThrow(SyntaxError);
    expect(wire.endsWith("0\r\n\r\n")).toBe(true);
  });

  test("trailing events come after the terminal one", async () => {
    const all = readEvents(
      bodyOf(await wireOf({ trailing_events: [{ text: "late" }, { event: "error", data: "{" }] })),
    );
    const names = all.map(({ name }) => name);
    expect(names.indexOf("response.completed")).toBeLessThan(names.lastIndexOf("response.output_text.delta"));
    expect(all.at(-1)).toEqual({ name: "error", data: "{" });
  });

  test("the answer of a scenario with nothing in it is complete", async () => {
    expect(finalOf(readEvents(bodyOf(await wireOf({}))))).toMatchObject({ status: "completed", output: [] });
  });
});
