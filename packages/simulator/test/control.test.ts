import { describe, expect, test } from "vitest";
import { credentialHash, InvalidInput, type Scenario, startSimulator } from "../src/index.ts";
import { ask, at, post, rawCall, send, simulatorFor, stream, textOf } from "./support.ts";

describe("the control API (providers.md §11.4)", () => {
  test("scenarios are queued, one or several at a time, and taken back", async () => {
    const simulator = await simulatorFor();
    const one = await post(simulator, "/__sim/scenarios", { events: [{ text: "one" }] });
    expect([one.status, await one.json()]).toEqual([200, { waiting_scenarios: 1 }]);
    await post(simulator, "/__sim/scenarios", [
      { events: [{ text: "two" }] },
      { events: [{ text: "three" }] },
    ]);
    expect(textOf(await stream(simulator, "PING"))).toBe("one");
    expect(textOf(await stream(simulator, "PING"))).toBe("two");
    expect(await send(simulator, "DELETE", "/__sim/scenarios")).toMatchObject({ waiting_scenarios: 0 });
    expect(textOf(await stream(simulator, "PING"))).toBe("PONG");
  });

  test("requests are captured with body, headers, scenario and timing; credentials only as a hash", async () => {
    const simulator = await simulatorFor();
    const before = Date.now();
    const headers = { authorization: "Bearer sk-secret", "api-key": "azure-secret", "x-mine": "1" };
    await (await post(simulator, "/openai/v1/responses?api-version=1", ask("PING"), headers)).text();
    await simulator.requests()[0]?.closed;
    const [request] = (await send(simulator, "GET", "/__sim/requests"))["requests"] as unknown[];
    expect(request).toMatchObject({
      id: 1,
      method: "POST",
      path: "/openai/v1/responses",
      query: "api-version=1",
      body: ask("PING"),
      scenario: "ping",
      deltas_sent: 1,
      deltas_sent_after_abort: 0,
      closed_by: "server",
      headers: {
        "x-mine": "1",
        authorization: credentialHash("Bearer sk-secret"),
        "api-key": credentialHash("azure-secret"),
      },
    });
    expect(JSON.stringify(request)).not.toContain("secret");
    const [received, closed] = [Number(at(request, "received_at")), Number(at(request, "closed_at"))];
    expect(before <= received && received <= closed && closed <= Date.now()).toBe(true);
  });

  test("an abort shows", async () => {
    const simulator = await simulatorFor({ events: [{ text: "a" }], hang_after: 1 });
    const running = rawCall(simulator, ask("x"));
    const request = await simulator.waitForRequest();
    const view = async (): Promise<unknown> =>
      at(await send(simulator, "GET", "/__sim/requests"), "requests", 0, "closed_by");
    expect(await view()).toBeNull();
    running.socket.destroy();
    await request.closed;
    expect(await view()).toBe("client");
  });

  test("the last n requests; then none", async () => {
    const simulator = await simulatorFor();
    for (const text of ["a", "b", "c"]) await stream(simulator, text);
    const ids = async (query: string): Promise<unknown> => {
      const { requests } = await send(simulator, "GET", `/__sim/requests${query}`);
      return Array.isArray(requests) && requests.map((request: unknown) => at(request, "id"));
    };
    expect([await ids(""), await ids("?last=2"), await ids("?last=0")]).toEqual([[1, 2, 3], [2, 3], []]);
    expect(await send(simulator, "GET", "/__sim/requests?last=x")).toMatchObject({ status: 400 });
    await send(simulator, "DELETE", "/__sim/requests");
    expect(await ids("")).toEqual([]);
  });

  test("state is read and changed in parts", async () => {
    const simulator = await simulatorFor();
    const change = {
      missing_deletes: "not_found",
      indexing: { polls: 3 },
      fail: { upload: { times: 2, status: 429 } },
    };
    const changed = await (await post(simulator, "/__sim/state", change)).json();
    expect(changed).toMatchObject({ ...change, indexing: { status: "completed", polls: 3 } });
    await post(simulator, "/__sim/state", { default_scenario: { events: [{ text: "mine" }] } });
    expect(textOf(await stream(simulator, "x"))).toBe("mine");
    expect(await send(simulator, "GET", "/__sim/state")).toEqual({ status: 200, ...simulator.state() });
    expect(simulator.state()).toMatchObject({ missing_deletes: "not_found", requests: 1 });
  });

  test("requests for a thread summary have an answer of their own", async () => {
    const simulator = await simulatorFor();
    simulator.setDefault({ events: [{ text: "to a chat" }] });
    const asked = async (type: string): Promise<string> => {
      const body = { ...ask("PING"), stream: false, metadata: { request_type: type } };
      return JSON.stringify(await (await post(simulator, "/v1/responses", body)).json());
    };
    expect(await asked("chat")).toContain("PONG");
    expect(await asked("summary")).toContain("<summary>\\nPurpose: a simulated summary.");
    await post(simulator, "/__sim/state", { summary_scenario: { events: [{ text: "mine" }] } });
    expect(await asked("summary")).toContain("mine");
    expect(await asked("chat")).toContain("PONG");
    simulator.setSummary(null);
    expect(await asked("summary")).toContain("a simulated summary");
  });

  test("reset makes everything new", async () => {
    const simulator = await simulatorFor({ name: "queued" });
    const fresh = (await simulatorFor()).state();
    await post(simulator, "/__sim/state", {
      missing_deletes: "not_found",
      indexing: { status: "failed", polls: 1 },
      fail: { deletion: { times: 1 } },
      default_scenario: {},
      summary_scenario: {},
    });
    await post(simulator, "/v1/vector_stores", {});
    simulator.open("gate");
    expect(simulator.state()).not.toEqual(fresh);
    expect(await (await post(simulator, "/__sim/reset", {})).json()).toEqual(fresh);
    expect(at(await (await post(simulator, "/v1/vector_stores", {})).json(), "id")).toBe("vs_mock_1");
  });

  test("gates are opened", async () => {
    const simulator = await simulatorFor({ gate: "a b" });
    const answering = post(simulator, "/v1/responses", ask("x"));
    await simulator.arrived("a b");
    await post(simulator, "/__sim/gates/a%20b", {});
    expect((await answering).status).toBe(200);
  });

  test("health; nothing of the control API is captured", async () => {
    const simulator = await simulatorFor();
    const response = await fetch(`${simulator.url}/__sim/health`);
    expect([response.status, await response.json()]).toEqual([200, { status: "ok" }]);
    expect(simulator.requests()).toEqual([]);
  });

  test.each([
    ["PUT", "/__sim/scenarios"],
    ["GET", "/__sim/nothing"],
    ["GET", "/__sim/toString"],
  ])("%s %s is 404", async (method, path) => {
    expect(await send(await simulatorFor(), method, path)).toMatchObject({ status: 404 });
  });
});

describe("what is not as documented is refused with the place", () => {
  test.each<[unknown, RegExp]>([
    [{ colour: "red" }, /^colour is unknown; known are name, events,/],
    [
      [{}, { events: [{ text: "a" }, { txt: "b" }] }],
      /^scenarios\[1\]\.events\[1\] must have one of text, reasoning/,
    ],
    [{ events: [{ text: "a", delay: 3 }] }, /^events\[0\]\.delay is unknown; known are text, delay_ms/],
    [{ events: [{ tool: "web_search" }] }, /^events\[0\]\.phase is missing/],
    [{ events: [{ tool: "browser", phase: "start" }] }, /^events\[0\]\.tool must be one of web_search/],
    [{ events: "a" }, /^events must be a list/],
    [{ terminal: "done" }, /^terminal must be one of completed, failed, incomplete, none/],
    [{ usage: { tokens: 1 } }, /^usage must be zero, absent or counters/],
    [{ usage: { input_tokens: -1 } }, /^usage must be/],
    [{ http_status: 99 }, /^http_status must be a whole number from 200 to 599/],
    [{ headers: { a: 1 } }, /^headers\.a must be a string/],
    [{ drop_after: { bits: 1 } }, /^drop_after must be a number of events/],
    [{ chunking: "line" }, /^chunking must be event, byte, random/],
    [{ malformed: ["crlf", "lf"] }, /^malformed must be one or a list of broken_json/],
    [{ repeat: { count: 1 } }, /^repeat\.bytes is missing/],
    [{ accept_delay_ms: "1" }, /^accept_delay_ms must be a number/],
    [{ on_abort: "cry" }, /^on_abort must be one of stop, continue/],
    [3, /must be an object/],
  ])("scenario %j", async (scenario, message) => {
    const simulator = await simulatorFor();
    const response = await post(simulator, "/__sim/scenarios", scenario);
    expect(response.status).toBe(400);
    expect(String(at(await response.json(), "error", "message")).trim()).toMatch(message);
    expect(simulator.state().waiting_scenarios).toBe(0);
  });

  test.each<[unknown, RegExp]>([
    [{ missing_deletes: "no" }, /^missing_deletes must be one of ok, not_found/],
    [{ fail: { download: { times: 1 } } }, /^fail\.download is unknown/],
    [{ fail: { upload: { status: 500 } } }, /^fail\.upload\.times is missing/],
    [{ fail: { upload: { times: 1, status: 200 } } }, /^fail\.upload\.status must be a status/],
    [{ indexing: { status: "half" } }, /^indexing\.status must be one of/],
    [{ default_scenario: { x: 1 } }, /^default_scenario\.x is unknown/],
  ])("state %j", async (change, message) => {
    const simulator = await simulatorFor();
    const response = await post(simulator, "/__sim/state", change);
    expect([response.status, at(await response.json(), "error", "message")]).toEqual([
      400,
      expect.stringMatching(message),
    ]);
  });

  test("a body that is no JSON", async () => {
    const simulator = await simulatorFor();
    const response = await fetch(`${simulator.url}/__sim/scenarios`, { method: "POST", body: "{" });
    expect(response.status).toBe(400);
  });

  test("the functions throw the same", async () => {
    const simulator = await simulatorFor();
    const wrong: object = { colour: "red" };
    expect(() => simulator.enqueue(wrong as Scenario)).toThrow(InvalidInput);
    expect(() => simulator.setDefault(wrong as Scenario)).toThrow("colour is unknown");
    expect(() => simulator.setState(wrong)).toThrow("colour is unknown");
  });
});

describe("waiting for a request", () => {
  test("one that is there already, and one that comes", async () => {
    const simulator = await simulatorFor();
    await stream(simulator, "a");
    expect((await simulator.waitForRequest()).id).toBe(1);
    const coming = simulator.waitForRequest(({ id }) => id === 3);
    await stream(simulator, "b");
    await stream(simulator, "c");
    expect((await coming).id).toBe(3);
  });

  test("a predicate that throws rejects its own wait only", async () => {
    const simulator = await simulatorFor();
    const failing = simulator.waitForRequest(() => {
      throw new Error("mine");
    });
    const fine = simulator.waitForRequest();
    await Promise.all([expect(failing).rejects.toThrow("mine"), stream(simulator, "a")]);
    expect((await fine).id).toBe(1);
  });

  test("closing ends the wait", async () => {
    const simulator = await startSimulator();
    const waiting = expect(simulator.waitForRequest()).rejects.toThrow("closed before");
    await simulator.close();
    await waiting;
    await simulator.close();
  });

  test("only the latest 1,000 requests are kept", async () => {
    const simulator = await simulatorFor();
    for (let n = 0; n < 50; n += 1) {
      await Promise.all(
        Array.from({ length: 50 }, () => fetch(`${simulator.url}/v1/files`).then((r) => r.text())),
      );
    }
    expect(simulator.requests()).toHaveLength(1_000);
    expect(simulator.requests().at(-1)?.id).toBe(2_500);
  });
});

test("a taken port is refused", async () => {
  const { port } = await simulatorFor();
  await expect(startSimulator({ port })).rejects.toThrow("EADDRINUSE");
});
