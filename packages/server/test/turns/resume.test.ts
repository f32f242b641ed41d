import { randomUUID } from "node:crypto";
import type { Scenario } from "@mini-chat/simulator";
import { afterAll, afterEach, beforeAll, describe, expect, test } from "vitest";
import { expireLogs } from "../../src/turns/expire-logs.ts";
import { eventually, startTestApp, type TestApp } from "../support/app.ts";
import { type Caller, callers } from "../support/config.ts";
import { type OpenedStream, openStream, textOf, type WireEvent } from "../support/stream.ts";
import { creditsOf, ended, everything, turnRow } from "./support.ts";

let app: TestApp;
/** Another process on the same database. */
let other: TestApp;
beforeAll(async () => {
  const config = {
    role: "api",
    providers: { sim: { expose_reasoning: true } },
    streaming: { sse_ping_interval_seconds: 5 },
  };
  app = await startTestApp({ config });
  const { database, simulator } = app;
  other = await startTestApp({ config, database, simulator });
});
afterEach(() => {
  app.simulator.clearScenarios();
});
afterAll(async () => {
  await other.close();
  await app.close();
});

interface Turn {
  readonly chatId: string;
  readonly requestId: string;
}

interface Place {
  readonly at?: TestApp;
  readonly after?: string | number;
  readonly lastEventId?: string;
  readonly caller?: Caller;
}

const resume = ({ chatId, requestId }: Turn, place: Place = {}): Promise<OpenedStream> => {
  const { at = other, after, lastEventId, caller = callers.ann } = place;
  const query = after === undefined ? "" : `?after=${after}`;
  return openStream(`${at.base}/chats/${chatId}/turns/${requestId}/stream${query}`, {
    method: "GET",
    headers: {
      authorization: `Bearer ${caller.token}`,
      ...(lastEventId === undefined ? {} : { "last-event-id": lastEventId }),
    },
  });
};

const begin = async (
  scenario: Scenario,
  body: object = { on_disconnect: "continue" },
): Promise<Turn & { stream: OpenedStream }> => {
  const chatId = await app.createChat();
  const requestId = randomUUID();
  app.simulator.enqueue(scenario);
  const stream = await app.send(chatId, { content: "hi", request_id: requestId, ...body });
  return { chatId, requestId, stream };
};

const messageOf = async ({ chatId }: Turn): Promise<{ id: string; content: string } | undefined> =>
  (await app.call("GET", `/chats/${chatId}/messages`)).body.items.find(
    (item: { role: string }) => item.role === "assistant",
  );

const names = (events: readonly WireEvent[]): string[] => events.map(({ event }) => event);
const withoutWarnings = (events: readonly WireEvent[]): WireEvent[] =>
  events.map(({ data: { quota_warnings: _, ...data }, ...event }) => ({ ...event, data }));

const citing: Scenario = {
  events: [
    { reasoning: "hm" },
    { text: "Found " },
    { tool: "web_search", phase: "start" },
    { tool: "web_search", phase: "done" },
    { text: "it." },
  ],
  citations: [
    { type: "url_citation", url: "https://example.com/a", title: "A", start_index: 0, end_index: 5 },
  ],
};
const search = { on_disconnect: "continue", web_search: { enabled: true } };

describe("the events of a turn opened with `continue` (turns.md §16.2)", () => {
  test("carry their places, without a gap, and each is in the log before it is sent", async () => {
    const turn = await begin({
      events: [{ text: "a" }, { wait_for: "more" }, ...Array.from({ length: 40 }, () => ({ text: "b" }))],
      event_delay_ms: 20,
    });
    const { id } = await turnRow(app, turn.requestId);
    const seen: WireEvent[] = [];
    for (let event = await turn.stream.next(); event !== undefined; event = await turn.stream.next()) {
      seen.push(event);
      const { rowCount } = await app.db.query("select from turn_events where turn_id = $1 and seq = $2", [
        id,
        event.id,
      ]);
      expect(rowCount, event.event).toBe(1);
      app.simulator.open("more");
    }
    expect(seen.map((event) => event.id)).toEqual(seen.map((_, at) => String(at)));
    expect(textOf(seen)).toBe(`a${"b".repeat(40)}`);
    // 800 ms of text in pieces of 250 ms, the first one at once.
    expect(names(seen).filter((name) => name === "delta").length).toBeLessThan(8);
    const first = seen.find(({ event }) => event === "delta");
    expect(first?.data["content"]).toBe("a");
  });

  test("a long piece does not wait for its time", async () => {
    const turn = await begin({
      events: [{ text: "a" }, { wait_for: "long" }, { text: "x".repeat(2_048) }, { wait_for: "end" }],
    });
    await turn.stream.until("delta");
    const { id } = await turnRow(app, turn.requestId);
    app.simulator.open("long");
    await turn.stream.until("delta");
    const { rows } = await app.db.query(
      "select octet_length(data ->> 'content') as length from turn_events where turn_id = $1 and seq > 0 order by seq",
      [id],
    );
    expect(rows).toEqual([{ length: 1 }, { length: 2_048 }]);
    app.simulator.open("end");
    await turn.stream.rest();
  });

  test("of every other turn carry none and leave no log", async () => {
    const { stream } = await begin({ events: [{ text: "a" }] }, {});
    await stream.rest();
    expect(stream.raw()).not.toMatch(/^id:/m);
    const { chatId, requestId } = await begin({ events: [{ text: "a" }] }, { on_disconnect: "cancel" });
    await ended(app, requestId);
    const { rowCount } = await app.db.query(
      "select from turn_events e join chat_turns t on t.id = e.turn_id where t.chat_id = $1",
      [chatId],
    );
    expect(rowCount).toBe(0);
  });

  test("are told as they were, tools and citations included, in another process", async () => {
    const turn = await begin(citing, search);
    const live = await turn.stream.rest();
    expect(new Set(names(live))).toEqual(new Set(["stream_started", "delta", "tool", "citations", "done"]));
    const again = await (await resume(turn)).rest();
    expect(again[0]).toEqual({ event: "stream_started", data: { ...live[0]?.data, is_new_turn: false } });
    expect(again.slice(1)).toEqual(withoutWarnings(live.slice(1)));
    for (let place = 0; place < live.length - 1; place += 1) {
      const rest = await (await resume(turn, { lastEventId: String(place) })).rest();
      expect(rest.slice(1)).toEqual(withoutWarnings(live.slice(place + 1)));
    }
  });

  test("half a character at the end of a piece waits for its other half", async () => {
    const turn = await begin({
      events: [
        { text: "a" },
        { text: "\u{1f600}".slice(0, 1) },
        { wait_for: "half" },
        { text: "\u{1f600}".slice(1) },
      ],
    });
    await turn.stream.until("delta");
    app.simulator.open("half");
    await turn.stream.rest();
    expect(textOf(await (await resume(turn)).rest())).toBe((await messageOf(turn))?.content);
  });
});

describe("a reader in another process", () => {
  test("gets what is there, then what comes, to the end; so do many, and their leaving changes nothing", async () => {
    const turn = await begin({
      events: [
        { text: "one" },
        { wait_for: "two" },
        { text: " two" },
        { wait_for: "three" },
        { text: " three" },
      ],
    });
    await turn.stream.until("delta");
    turn.stream.disconnect();
    const readers = await Promise.all([resume(turn), resume(turn), resume(turn, { at: app })]);
    for (const reader of readers) expect((await reader.until("delta")).data["content"]).toBe("one");
    readers[0]?.disconnect();
    app.simulator.open("two");
    for (const reader of readers.slice(1)) expect((await reader.until("delta")).data["content"]).toBe(" two");
    const late = await resume(turn, { lastEventId: "1" });
    app.simulator.open("three");
    for (const reader of readers.slice(1)) {
      expect(names(await reader.rest())).toEqual(["delta", "done"]);
    }
    expect(textOf(await late.rest())).toBe(" two three");
    expect(await ended(app, turn.requestId)).toMatchObject({ state: "completed" });
    expect((await messageOf(turn))?.content).toBe("one two three");
  });

  test("is told of the end only after it was committed", async () => {
    const turn = await begin({ events: [{ text: "text" }, { wait_for: "end" }] });
    await turn.stream.until("delta");
    const reader = await resume(turn);
    await reader.until("delta");
    app.simulator.open("end");
    await reader.until("done");
    expect((await turnRow(app, turn.requestId)).state).toBe("completed");
  });

  test("is pinged before content and gets comments after it", async () => {
    const turn = await begin({ events: [{ wait_for: "first" }, { text: "x" }, { wait_for: "second" }] });
    await turn.stream.until("stream_started");
    const reader = await resume(turn);
    await reader.until("stream_started");
    expect(await reader.next()).toEqual({ event: "ping", data: {} });
    app.simulator.open("first");
    await reader.until("delta");
    while (!reader.raw().includes("\n:\n")) await new Promise((resolve) => setTimeout(resolve, 20));
    app.simulator.open("second");
    expect(names(await reader.rest())).toEqual(["done"]);
  });

  test("who reads slowly gets everything, and slows nobody down", async () => {
    const turn = await begin({
      repeat: { count: 300, bytes: 65_536 },
      chunking: "event",
      terminal: "none",
      trailing_events: [{ event: "response.completed", data: { response: { id: "resp_1" } } }],
    });
    turn.stream.disconnect();
    const slow = await resume(turn);
    slow.pause();
    expect(await ended(app, turn.requestId)).toMatchObject({ state: "completed" });
    slow.resume();
    expect(textOf(await slow.rest()).length).toBe(300 * 65_536);
  });

  test("who has the end already gets it once more", async () => {
    const turn = await begin({ events: [{ text: "a" }] });
    const live = await turn.stream.rest();
    const events = await (await resume(turn, { lastEventId: live.at(-1)?.id ?? "" })).rest();
    expect(names(events)).toEqual(["stream_started", "done"]);
  });
});

describe("what a stream is resumed from", () => {
  const prepared: Record<string, () => Promise<Turn>> = {
    "completed, with its log": async () => {
      const turn = await begin({ events: [{ text: "a" }] });
      await turn.stream.rest();
      return turn;
    },
    "completed, its log expired": async () => {
      const turn = await begin(citing, search);
      await turn.stream.rest();
      await expire(turn);
      return turn;
    },
    "completed, opened with cancel": async () => {
      const turn = await begin({ events: [{ text: "a" }] }, {});
      await turn.stream.rest();
      return turn;
    },
    "failed, with its log": async () => {
      const turn = await begin({ events: [{ text: "a" }], error: {} });
      await turn.stream.rest();
      return turn;
    },
    "failed, its log expired": async () => {
      const turn = await begin({ events: [{ text: "a" }], error: {} });
      await turn.stream.rest();
      await expire(turn);
      return turn;
    },
    "cancelled, with its log": async () =>
      stopped(await begin({ events: [{ text: "a" }, { wait_for: "x" }] })),
    "cancelled, its log expired": async () => {
      const turn = await stopped(await begin({ events: [{ text: "a" }, { wait_for: "x" }] }));
      await expire(turn);
      return turn;
    },
  };

  test.each<[string, string[], string]>([
    ["completed, with its log", ["stream_started", "delta", "done"], "a"],
    ["completed, its log expired", ["stream_started", "delta", "citations", "done"], "Found it."],
    ["completed, opened with cancel", ["stream_started", "delta", "done"], "a"],
    ["failed, with its log", ["stream_started", "delta", "error provider_error"], "a"],
    ["failed, its log expired", ["stream_started", "error provider_error"], ""],
    ["cancelled, with its log", ["stream_started", "delta", "error cancelled"], "a"],
    ["cancelled, its log expired", ["stream_started", "error cancelled"], ""],
  ])("%s; nothing is written", async (state, expected, text) => {
    const turn = await (prepared[state] ?? expect.fail)();
    const before = await everything(app);
    const events = await (await resume(turn)).rest();
    expect(
      events.map(({ event, data }) => (event === "error" ? `error ${String(data["code"])}` : event)),
    ).toEqual(expected);
    expect(events[0]?.data).toMatchObject({ request_id: turn.requestId, is_new_turn: false });
    expect(textOf(events)).toBe(text);
    expect(await everything(app)).toEqual(before);
  });

  test("a running turn opened with cancel is not resumable", async () => {
    const turn = await begin({ events: [{ text: "a" }, { wait_for: "b 1" }] }, {});
    await turn.stream.until("delta");
    const refused = await resume(turn);
    expect(refused.status).toBe(409);
    expect(await refused.problem()).toMatchObject({ code: "not_resumable", title: "not_resumable" });
    app.simulator.open("b 1");
    expect(names(await turn.stream.rest())).toEqual(["done"]);
  });

  test.each(["-1", "1.5", "x", "2147483648", "1e3", "1, 2"])(
    "Last-Event-ID %j is refused",
    async (id) => {
      const turn = await begin({ events: [{ text: "a" }] });
      await turn.stream.rest();
      const refused = await resume(turn, { lastEventId: id });
          expect(refused.status).toBe(400);
        expect(await refused.problem()).toMatchObject({
          code: "invalid_request",
          errors: [{ field: "Last-Event-ID", message: expect.stringContaining("whole number") }],
        });
    },
  );

  test("an id the turn does not have is refused; the header is heeded before the query", async () => {
    const turn = await begin({ events: [{ text: "a" }] });
    await turn.stream.rest();
    expect((await resume(turn, { lastEventId: "3" })).status).toBe(400);
    expect((await resume(turn, { after: 3 })).status).toBe(400);
    expect((await resume(turn, { after: "x" })).status).toBe(400);
    expect(names(await (await resume(turn, { after: 1 })).rest())).toEqual(["stream_started", "done"]);
    const both = await (await resume(turn, { after: 0, lastEventId: "1" })).rest();
    expect(names(both)).toEqual(["stream_started", "done"]);
  });

  test("deleted and replaced turns, other users' and other tenants' are 404", async () => {
    const turn = await begin({ events: [{ text: "a" }] });
    await turn.stream.rest();
    const strangers = await Promise.all([callers.amy, callers.bob].map((caller) => resume(turn, { caller })));
    const unknown = await resume({ ...turn, requestId: randomUUID() });
    const problems = await Promise.all([...strangers, unknown].map((stream) => stream.problem()));
    expect(problems.map(({ status, code }) => `${status} ${code}`)).toEqual([
      "404 chat_not_found",
      "404 chat_not_found",
      "404 turn_not_found",
    ]);
    await app.call("DELETE", `/chats/${turn.chatId}/turns/${turn.requestId}`);
    expect((await resume(turn)).status).toBe(404);
  });

  const stopped = async (turn: Turn & { stream: OpenedStream }): Promise<Turn> => {
    await turn.stream.until("delta");
    await other.call("POST", `/chats/${turn.chatId}/turns/${turn.requestId}/cancel`);
    await turn.stream.rest();
    return turn;
  };
});

/** Lets the retention of a turn's log pass, and of no other one. */
const expire = async ({ requestId }: Turn): Promise<void> => {
  const { id } = await turnRow(app, requestId);
  await app.db.query("update turn_events set created_at = now() - interval '2 hours' where turn_id = $1", [
    id,
  ]);
  await app.db.query("update chat_turns set completed_at = now() - interval '2 hours' where id = $1", [id]);
  await expireLogs(app.db, 3_600, new AbortController().signal);
  const { rowCount } = await app.db.query("select from turn_events where turn_id = $1", [id]);
  expect(rowCount).toBe(0);
};

describe("a client that leaves a turn opened with `continue`", () => {
  test("does not stop it, and retries and edits can be opened so as well", async () => {
    const first = await begin({ events: [{ text: "a" }, { wait_for: "b 2" }, { text: "b" }] });
    await first.stream.until("delta");
    first.stream.disconnect();
    app.simulator.open("b 2");
    expect(await ended(app, first.requestId)).toMatchObject({ state: "completed" });
    for (const [method, path, body] of [
      ["POST", "/retry?on_disconnect=continue", undefined],
      ["PATCH", "", { content: "edited", on_disconnect: "continue" }],
    ] as const) {
      const { rows } = await app.db.query<{ requestId: string }>(
        `select request_id as "requestId" from chat_turns where chat_id = $1 and deleted_at is null`,
        [first.chatId],
      );
      const stream = await openStream(
        `${app.base}/chats/${first.chatId}/turns/${rows[0]?.requestId}${path}`,
        { method, headers: { authorization: `Bearer ${callers.ann.token}` }, body },
      );
      const started = await stream.until("stream_started");
      stream.disconnect();
      const requestId = String(started.data["request_id"]);
      expect(await ended(app, requestId)).toMatchObject({ state: "completed" });
      const again = await (await resume({ chatId: first.chatId, requestId })).rest();
      expect(names(again).at(-1)).toBe("done");
  });

  test("an explicit cancel in another process, and the deletion of the chat, end it all the same", async () => {
    const gone = async (act: (turn: Turn) => Promise<unknown>) => {
      const turn = await begin({ events: [{ text: "kept" }, { wait_for: "never" }] });
      await turn.stream.until("delta");
      turn.stream.disconnect();
      const reader = await resume(turn);
      await reader.until("delta");
      await act(turn);
      expect((await reader.rest()).at(-1)?.data["code"]).toBe("cancelled");
      return turnRow(app, turn.requestId);
    };
    const cancelled = await gone((turn) =>
      other.call("POST", `/chats/${turn.chatId}/turns/${turn.requestId}/cancel`),
    );
    expect(cancelled).toMatchObject({ state: "cancelled", messageId: expect.any(String) });
    const deleted = await gone((turn) => other.call("DELETE", `/chats/${turn.chatId}`));
    expect(deleted.state).toBe("cancelled");
    expect((await creditsOf(app, callers.ann)).reserved).toBe(0n);
  });

  test("the same request again is a conflict while it runs and a replay afterwards, whatever it says of leaving", async () => {
    const turn = await begin({ events: [{ text: "a" }, { wait_for: "b 3" }] });
    await turn.stream.until("delta");
    const again = { content: "hi", request_id: turn.requestId, on_disconnect: "cancel" };
    const conflict = await app.send(turn.chatId, again);
    expect(conflict.status).toBe(409);
    expect(conflict.headers.location).toBe(`/v1/chats/${turn.chatId}/turns/${turn.requestId}`);
    app.simulator.open("b 3");
    await turn.stream.rest();
    const replay = await app.send(turn.chatId, again);
    expect(names(await replay.rest())).toEqual(["stream_started", "delta", "done"]);
    expect(replay.raw()).not.toMatch(/^id:/m);
  });
});

describe("the retention of logs", () => {
  test("counts from the end of the turn, takes whole logs, and leaves those of running turns", async () => {
    const running = await begin({ events: [{ text: "a" }, { wait_for: "b 4" }] });
    await running.stream.until("delta");
    const fresh = await begin({ events: [{ text: "a" }] });
    await fresh.stream.rest();
    await app.db.query("update turn_events set created_at = now() - interval '2 hours'");
    const old = await begin({ events: [{ text: "a" }] });
    await old.stream.rest();
    await expire(old);
    expect(names(await (await resume(fresh)).rest())).toContain("done");
    app.simulator.open("b 4");
    expect(names(await running.stream.rest())).toEqual(["done"]);
    expect(textOf(await (await resume(running)).rest())).toBe("a");
  });

  test("takes any number of them, and stops between batches when it is told to", async () => {
    const { rows } = await app.db.query<{ id: string }>("select id from chat_turns limit 1");
    await app.db.query(
      `insert into chat_turns (id, tenant_id, chat_id, request_id, requester_type, requester_user_id, state,
         request_fingerprint, started_at, updated_at, completed_at)
       select gen_random_uuid(), t.tenant_id, t.chat_id, gen_random_uuid(), 'user', t.requester_user_id, 'failed',
         t.request_fingerprint, now() - interval '3 hours', now(), now() - interval '2 hours'
       from chat_turns t, generate_series(1, 120)
       where t.id = $1`,
      [rows[0]?.id],
    );
    await app.db.query(
      `insert into turn_events (turn_id, seq, event, data, tenant_id, created_at)
       select id, seq, 'delta', '{}', tenant_id, now() - interval '3 hours'
       from chat_turns, generate_series(0, 2) seq
       where completed_at <= now() - interval '1 hour' and started_at <= now() - interval '2 hours'`,
    );
    expect(await expireLogs(app.db, 3_600, AbortSignal.abort())).toBe(0);
    expect(await expireLogs(app.db, 3_600, new AbortController().signal)).toBe(360);
  });
});

test("a reader of a process that stops is let go without an end, and can go on elsewhere", async () => {
  const third = await startTestApp({
    config: { role: "api" },
    database: app.database,
    simulator: app.simulator,
  });
  const turn = await begin({ events: [{ text: "a" }, { wait_for: "b 5" }, { text: "b" }] });
  await turn.stream.until("delta");
  const reader = await resume(turn, { at: third });
  const delta = await reader.until("delta");
  await third.close();
  expect(await reader.rest()).toEqual([]);
  app.simulator.open("b 5");
  const rest = await (await resume(turn, { lastEventId: delta.id ?? "" })).rest();
  expect(textOf(rest)).toBe("b");
  await eventually(async () => (await turnRow(app, turn.requestId)).state === "completed");
});
