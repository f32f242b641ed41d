import { describe, expect, test } from "vitest";
import type { Scenario } from "../src/index.ts";
import { ask, post, rawCall, simulatorFor } from "./support.ts";

const forever: Scenario = { repeat: { count: 1_000_000, bytes: 10, interval_ms: 1 } };

describe("the client leaves (providers.md §11.3 on_abort, turns.md §9)", () => {
  const phases: Record<string, Scenario> = {
    "before the request is accepted": { accept_delay_ms: 60_000 },
    "before the headers": { header_delay_ms: 60_000 },
    "at a gate before the headers": { gate: "shut" },
    "at a gate in the stream": { events: [{ text: "a" }, { wait_for: "shut" }] },
    "between events": { events: [{ text: "a" }, { text: "b", delay_ms: 60_000 }] },
    "in a stream of deltas": forever,
    "while silent": { events: [{ text: "a" }], hang_after: 1 },
    "while slow": { slow_loris: 60_000 },
    "in a plain answer": { http_status: 500, hang_after: 0 },
  };

  test.each(Object.entries(phases))("%s, which is recorded within 200 ms", async (_phase, scenario) => {
    const simulator = await simulatorFor(scenario);
    const running = rawCall(simulator, ask("x"));
    await (scenario.accept_delay_ms === undefined ? simulator.waitForRequest() : running.sent);
    const left = Date.now();
    running.socket.destroy();
    const closed = await (await simulator.waitForRequest()).closed;
    expect(closed).toMatchObject({ by: "client", deltasSentAfterAbort: 0 });
    expect(closed.at - left).toBeLessThan(200);
    expect(simulator.state().active).toBe(0);
  });

  test("by a reset instead of a close", async () => {
    const simulator = await simulatorFor({ hang_after: 0 });
    const running = rawCall(simulator, ask("x"));
    const request = await simulator.waitForRequest();
    running.socket.resetAndDestroy();
    expect(await request.closed).toMatchObject({ by: "client" });
  });

  test("in the middle of its own request", async () => {
    const simulator = await simulatorFor();
    const running = rawCall(simulator, ask("x"), { omitBytes: 5 });
    await running.sent;
    running.socket.destroy();
    const { body, closed } = await simulator.waitForRequest();
    expect([body, (await closed).by]).toEqual([null, "client"]);
  });

  test("the deltas sent until then are counted", async () => {
    const simulator = await simulatorFor({
      events: [{ text: "a" }, { text: "b" }, { wait_for: "shut" }, { text: "c" }],
    });
    const running = rawCall(simulator, ask("x"));
    await simulator.arrived("shut");
    running.socket.destroy();
    expect(await (await simulator.waitForRequest()).closed).toMatchObject({
      deltasSent: 2,
      deltasSentAfterAbort: 0,
    });
  });

  test("with continue the rest is played into the void and counted apart", async () => {
    const simulator = await simulatorFor({
      events: [{ text: "a" }, { wait_for: "shut" }, { text: "b" }, { text: "c", delay_ms: 60_000 }],
      on_abort: "continue",
    });
    const running = rawCall(simulator, ask("x"));
    await simulator.arrived("shut");
    running.socket.destroy();
    const closed = await (await simulator.waitForRequest()).closed;
    expect(closed).toMatchObject({ by: "client", deltasSent: 1, deltasSentAfterAbort: 2 });
  });

  test("a client that does not read stops the sender", async () => {
    const simulator = await simulatorFor({ repeat: { count: 2_000_000, bytes: 100 } });
    const running = rawCall(simulator, ask("x"));
    running.socket.pause();
    const request = await simulator.waitForRequest();
    await (await post(simulator, "/v1/responses", ask("PING"))).text();
    expect(request.deltasSent).toBeLessThan(1_000_000);
    running.socket.destroy();
    expect((await request.closed).by).toBe("client");
  });
});

describe("the end of an answer", () => {
  test("a complete one is closed by the server", async () => {
    const simulator = await simulatorFor();
    await (await post(simulator, "/v1/responses", ask("x"))).text();
    const request = await simulator.waitForRequest();
    expect(await request.closed).toEqual({
      at: request.closedAt,
      by: "server",
      deltasSent: 2,
      deltasSentAfterAbort: 0,
    });
  });

  test("closing the simulator ends answers under way, as the server's doing", async () => {
    const simulator = await simulatorFor({ hang_after: 0 });
    const running = rawCall(simulator, ask("x"));
    const request = await simulator.waitForRequest();
    await simulator.close();
    expect((await request.closed).by).toBe("server");
    await running.closed;
  });
});
