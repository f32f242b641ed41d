import { randomUUID } from "node:crypto";
import { describe, expect, test } from "vitest";
import { expireLogs } from "../../src/turns/expire-logs.ts";
import { callers } from "../support/config.ts";
import { type OpenedStream, textOf } from "../support/stream.ts";
import {
  app,
  begin,
  citing,
  expire,
  names,
  other,
  resume,
  search,
  type Turn,
  useTwoApps,
} from "./resume-support.ts";
import { everything } from "./support.ts";

useTwoApps();

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

  test.each(["-1", "1.5", "x", "2147483648", "1e3", "1, 2"])("Last-Event-ID %j is refused", async (id) => {
    const turn = await begin({ events: [{ text: "a" }] });
    await turn.stream.rest();
    const refused = await resume(turn, { lastEventId: id });
    expect(refused.status).toBe(400);
    expect(await refused.problem()).toMatchObject({
      code: "invalid_request",
      errors: [{ field: "Last-Event-ID", message: expect.stringContaining("whole number") }],
    });
  });

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
