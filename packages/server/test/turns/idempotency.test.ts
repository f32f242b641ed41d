import { randomUUID } from "node:crypto";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { startTestApp, type TestApp } from "../support/app.ts";
import { textOf } from "../support/stream.ts";

let app: TestApp;
beforeAll(async () => {
  app = await startTestApp();
});
afterAll(async () => {
  await app.close();
});

/** Everything a replay or a refusal must leave alone. */
const everything = async (): Promise<unknown> => {
  const { rows } = await app.db.query(`
    select
      (select json_agg(t order by id) from chat_turns t) as turns,
      (select json_agg(m order by id) from messages m) as messages,
      (select json_agg(q order by id) from quota_usage q) as quota,
      (select count(*) from outbox_dead) as dead`);
  return rows;
};

describe("a repeated send (turns.md §6, api.md §7)", () => {
  test("§23.9 a completed turn is replayed any number of times and nothing changes", async () => {
    const chatId = await app.createChat();
    const body = { content: "PING", request_id: randomUUID() };
    await (await app.send(chatId, body)).rest();
    const before = await everything();
    const calls = app.simulator.requests().length;
    for (let round = 0; round < 3; round += 1) {
      const events = await (await app.send(chatId, body)).rest();
      expect(events.map((event) => event.event)).toEqual(["stream_started", "delta", "done"]);
      expect(events[0]?.data).toMatchObject({ is_new_turn: false, request_id: body.request_id });
      expect(textOf(events)).toBe("PONG");
      expect(events[2]?.data).toEqual({
        usage: { input_tokens: 50, output_tokens: 12 },
        effective_model: "standard",
        selected_model: "standard",
        quota_decision: "allow",
      });
    }
    expect(await everything()).toEqual(before);
    expect(app.simulator.requests().length).toBe(calls);
  });

  test("§23.10 replay works while another turn of the chat runs", async () => {
    const chatId = await app.createChat();
    const body = { content: "PING", request_id: randomUUID() };
    await (await app.send(chatId, body)).rest();
    app.simulator.enqueue({ events: [{ text: "slow" }, { wait_for: "slow" }] });
    const running = await app.send(chatId, { content: "go on" });
    await running.until("delta");
    const events = await (await app.send(chatId, body)).rest();
    expect(textOf(events)).toBe("PONG");
    app.simulator.open("slow");
    expect((await running.rest()).at(-1)?.event).toBe("done");
  });

  test("a running turn is 409 with the place of its status", async () => {
    const chatId = await app.createChat();
    const requestId = randomUUID();
    app.simulator.enqueue({ events: [{ text: "x" }, { wait_for: "running" }] });
    const running = await app.send(chatId, { content: "hi", request_id: requestId });
    await running.until("delta");
    const again = await app.send(chatId, { content: "hi", request_id: requestId });
    expect(again.status).toBe(409);
    expect(again.headers["location"]).toBe(`/v1/chats/${chatId}/turns/${requestId}`);
    expect(await again.problem()).toMatchObject({ code: "request_id_conflict" });
    const other = await app.send(chatId, { content: "something else", request_id: requestId });
    expect(await other.problem()).toMatchObject({ code: "idempotency_mismatch", status: 422 });
    app.simulator.open("running");
    await running.rest();
  });

  test.each([
    ["failed", "ERROR"],
    ["completed", "PING"],
  ])("the request id of a %s turn with another body is 422 and changes nothing", async (_state, content) => {
    const chatId = await app.createChat();
    const requestId = randomUUID();
    await (await app.send(chatId, { content, request_id: requestId })).rest();
    const before = await everything();
    for (const body of [{ content: `${content} ` }, { content, web_search: { enabled: true } }]) {
      const refused = await app.send(chatId, { ...body, request_id: requestId });
      expect(await refused.problem()).toMatchObject({ code: "idempotency_mismatch", status: 422 });
    }
    expect(await everything()).toEqual(before);
  });

  test("a failed turn's request id is 409", async () => {
    const chatId = await app.createChat();
    const body = { content: "ERROR", request_id: randomUUID() };
    await (await app.send(chatId, body)).rest();
    const again = await app.send(chatId, body);
    expect(again.headers["location"]).toBeUndefined();
    expect(await again.problem()).toMatchObject({ code: "request_id_conflict", status: 409 });
  });

  test("api.md §12.5: twenty sends of one request id at once make one turn and one charge", async () => {
    const chatId = await app.createChat();
    const body = { content: "PING", request_id: randomUUID() };
    const calls = app.simulator.requests().length;
    const streams = await Promise.all(Array.from({ length: 20 }, () => app.send(chatId, body)));
    const opened = streams.filter((stream) => stream.status === 200);
    const started = await Promise.all(opened.map(async (stream) => (await stream.rest())[0]?.data));
    expect(started.filter((data) => data?.["is_new_turn"] === true)).toHaveLength(1);
    for (const stream of streams.filter((one) => one.status !== 200)) {
      expect((await stream.problem())["code"]).toMatch(/request_id_conflict|generation_in_progress/);
    }
    expect(app.simulator.requests().length).toBe(calls + 1);
    const { rows } = await app.db.query("select state from chat_turns where chat_id = $1", [chatId]);
    expect(rows).toEqual([{ state: "completed" }]);
  });
});

describe("one running turn per chat (turns.md §7)", () => {
  test("§23.1 of twenty different sends at once one runs, the others are 409", async () => {
    const chatId = await app.createChat();
    app.simulator.setDefault({ events: [{ text: "x" }, { wait_for: "all-in" }] });
    const streams = await Promise.all(
      Array.from({ length: 20 }, (_, at) => app.send(chatId, { content: `message ${at}` })),
    );
    app.simulator.setDefault(null);
    const [winner, ...more] = streams.filter((stream) => stream.status === 200);
    expect(more).toEqual([]);
    for (const stream of streams.filter((one) => one.status !== 200)) {
      expect(await stream.problem()).toMatchObject({ code: "generation_in_progress", status: 409 });
    }
    const counted = await app.db.query(
      "select (select count(*) from chat_turns where chat_id = $1)::int as turns, (select count(*) from messages where chat_id = $1)::int as messages",
      [chatId],
    );
    // §23.2 and §23.3: the winner's question is stored, of the others there is nothing.
    expect(counted.rows).toEqual([{ turns: 1, messages: 1 }]);
    app.simulator.open("all-in");
    expect((await winner?.rest())?.at(-1)?.event).toBe("done");
  });
});
