import { randomUUID } from "node:crypto";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { eventually, startTestApp, type TestApp } from "../support/app.ts";
import { textOf } from "../support/stream.ts";

let app: TestApp;
let other: TestApp;
beforeAll(async () => {
  app = await startTestApp();
  other = await startTestApp({ database: app.database, simulator: app.simulator });
});
afterAll(async () => {
  await other.close();
  await app.close();
});

const status = async (chatId: string, requestId: string): Promise<Record<string, unknown>> =>
  (await app.call("GET", `/chats/${chatId}/turns/${requestId}`)).body;

const settledAs = async (requestId: string): Promise<Record<string, unknown> | undefined> => {
  const { rows } = await app.db.query(
    `select t.state, t.cancel_reason, t.reserve_tokens::int as reserve, q.reserved_credits_micro as reserved
     from chat_turns t
     join quota_usage q on q.user_id = t.requester_user_id and q.period_type = 'monthly' and q.bucket = 'total'
     where t.request_id = $1`,
    [requestId],
  );
  return rows[0];
};

const contents = async (chatId: string): Promise<string[]> =>
  (await app.call("GET", `/chats/${chatId}/messages`)).body.items.map(
    (item: { content: string }) => item.content,
  );

describe("a client that leaves (turns.md §9)", () => {
  test("§23.12 before any text: the provider's socket is closed, cancelled, no message", async () => {
    const chatId = await app.createChat();
    const requestId = randomUUID();
    app.simulator.enqueue({ gate: "silent" });
    const stream = await app.send(chatId, { content: "leave early", request_id: requestId });
    await stream.until("stream_started");
    await app.simulator.arrived("silent");
    const call = app.simulator.requests().at(-1);
    stream.disconnect();
    await eventually(async () => (await status(chatId, requestId))["state"] === "cancelled");
    expect((await call?.closed)?.by).toBe("client");
    app.simulator.open("silent");
    expect(await status(chatId, requestId)).not.toHaveProperty("assistant_message_id");
    expect(await contents(chatId)).toEqual(["leave early"]);
    expect(await settledAs(requestId)).toMatchObject({ cancel_reason: "disconnect", reserved: 0n });
  });

  test("§23.12, §23.13 after text: exactly the text received is kept, and it is not free", async () => {
    const chatId = await app.createChat();
    const requestId = randomUUID();
    app.simulator.enqueue({ events: [{ text: "so far" }, { wait_for: "mid" }, { text: " and more" }] });
    const stream = await app.send(chatId, { content: "leave", request_id: requestId });
    await stream.until("delta");
    const spentBefore = await spent();
    stream.disconnect();
    await eventually(async () => (await status(chatId, requestId))["state"] === "cancelled");
    app.simulator.open("mid");
    expect(await contents(chatId)).toEqual(["leave", "so far"]);
    expect(await status(chatId, requestId)).toHaveProperty("assistant_message_id");
    expect(await spent()).toBeGreaterThan(spentBefore);
    const again = await app.send(chatId, { content: "leave", request_id: requestId });
    expect(await again.problem()).toMatchObject({ code: "request_id_conflict" });
  });

  test("after the terminal event nothing changes", async () => {
    const chatId = await app.createChat();
    const { requestId, events } = await app.ask(chatId, "PING");
    expect(events.at(-1)?.event).toBe("done");
    expect(await status(chatId, requestId)).toMatchObject({ state: "done" });
  });

  test("with on_disconnect `continue` the turn goes on without it", async () => {
    const chatId = await app.createChat();
    const requestId = randomUUID();
    app.simulator.enqueue({ events: [{ text: "first" }, { wait_for: "detached" }, { text: " last" }] });
    const stream = await app.send(chatId, {
      content: "go",
      request_id: requestId,
      on_disconnect: "continue",
    });
    await stream.until("delta");
    stream.disconnect();
    app.simulator.open("detached");
    await eventually(async () => (await status(chatId, requestId))["state"] === "done");
    expect(await contents(chatId)).toEqual(["go", "first last"]);
  });
});

const spent = async (): Promise<bigint> =>
  (
    await app.db.query<{ spent: bigint }>(
      "select coalesce(sum(spent_credits_micro), 0)::bigint as spent from quota_usage",
    )
  ).rows[0]?.spent ?? 0n;

describe("explicit cancel (turns.md §16.1)", () => {
  test.each([
    ["the process that runs it", (): TestApp => app],
    ["another process", (): TestApp => other],
  ])("through %s: 200 cancelled, the attached stream ends with `cancelled`", async (_where, door) => {
    const chatId = await app.createChat();
    const requestId = randomUUID();
    app.simulator.enqueue({ events: [{ text: "begun" }, { wait_for: "cancel" }] });
    const stream = await app.send(chatId, { content: "stop me", request_id: requestId });
    await stream.until("delta");
    const answer = await door().call("POST", `/chats/${chatId}/turns/${requestId}/cancel`);
    expect(answer).toMatchObject({ status: 200, body: { state: "cancelled", request_id: requestId } });
    const rest = await stream.rest();
    expect(rest).toMatchObject([{ event: "error", data: { code: "cancelled" } }]);
    expect(await contents(chatId)).toEqual(["stop me", "begun"]);
    expect(await settledAs(requestId)).toMatchObject({ cancel_reason: "user_stop", reserved: 0n });
    const again = await door().call("POST", `/chats/${chatId}/turns/${requestId}/cancel`);
    expect(again).toMatchObject({ status: 200, body: { state: "cancelled" } });
  });

  test("deleting the chat asks its running turn to stop; it settles all the same (§19)", async () => {
    const chatId = await app.createChat();
    const requestId = randomUUID();
    app.simulator.enqueue({ events: [{ text: "begun" }, { wait_for: "deleted" }] });
    const stream = await app.send(chatId, { content: "x", request_id: requestId });
    await stream.until("delta");
    expect((await app.call("DELETE", `/chats/${chatId}`)).status).toBe(204);
    expect(await stream.rest()).toMatchObject([{ event: "error", data: { code: "cancelled" } }]);
    expect(await settledAs(requestId)).toMatchObject({
      state: "cancelled",
      cancel_reason: "chat_deleted",
      reserved: 0n,
    });
  });
});

describe("tool limits (turns.md §8, quota.md §8)", () => {
  test("the third web search stops the turn; its start is not relayed, two calls are counted", async () => {
    const chatId = await app.createChat();
    const search = [
      { tool: "web_search", phase: "start" },
      { tool: "web_search", phase: "done" },
    ] as const;
    app.simulator.enqueue({
      events: [
        ...search,
        ...search,
        { text: "so " },
        { tool: "web_search", phase: "start" },
        { wait_for: "never" },
      ],
    });
    const stream = await app.send(chatId, { content: "search", web_search: { enabled: true } });
    const events = await stream.rest();
    expect(events.filter((event) => event.event === "tool")).toHaveLength(4);
    expect(events.at(-1)).toMatchObject({ event: "error", data: { code: "web_search_calls_exceeded" } });
    expect(textOf(events)).toBe("so ");
    const { rows } = await app.db.query(
      "select state, error_code, web_search_completed_count as calls from chat_turns where chat_id = $1",
      [chatId],
    );
    expect(rows).toEqual([{ state: "failed", error_code: "web_search_calls_exceeded", calls: 2 }]);
    const quota = await app.db.query(
      "select web_search_calls as calls from quota_usage where bucket = 'total' and period_type = 'daily' and web_search_calls > 0",
    );
    expect(quota.rows).toEqual([{ calls: 2 }]);
    // §23.14: a failed turn keeps its question and has no answer.
    expect(await contents(chatId)).toEqual(["search"]);
  });
});
