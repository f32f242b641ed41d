import { describe, expect, test } from "vitest";
import { eventually, startTestApp } from "../support/app.ts";
import { callers } from "../support/config.ts";
import { openStream, textOf, type WireEvent } from "../support/stream.ts";
import {
  app,
  begin,
  citing,
  messageOf,
  names,
  other,
  resume,
  search,
  type Turn,
  useTwoApps,
  withoutWarnings,
} from "./resume-support.ts";
import { creditsOf, ended, turnRow } from "./support.ts";

useTwoApps();

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
    }
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
