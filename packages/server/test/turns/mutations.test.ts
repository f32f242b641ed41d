import { randomUUID } from "node:crypto";
import { afterAll, afterEach, beforeAll, describe, expect, test } from "vitest";
import { requestFingerprint } from "../../src/turns/fingerprint.ts";
import { eventually, startTestApp, type TestApp } from "../support/app.ts";
import { callers, modelEntry } from "../support/config.ts";
import { mutate, newQuestion, ops, successorOf, turnsOf } from "./mutation-support.ts";
import { attach, creditsOf, eventsOf, samples } from "./support.ts";

let app: TestApp;
beforeAll(async () => {
  app = await startTestApp({
    config: {
      role: "api",
      plugins: {
        model_policy: {
          static: {
            model_catalog: [
              modelEntry("standard", {
                preference: { is_default: true, sort_order: 0 },
                multimodal_capabilities: ["VISION_INPUT"],
              }),
            ],
            default_standard_limits: {
              limit_daily_credits_micro: 1_000_000_000,
              limit_monthly_credits_micro: 1_000_000_000,
            },
          },
        },
      },
    },
  });
});
afterEach(() => {
  app.simulator.clearScenarios();
});
afterAll(async () => {
  await app.close();
});

const question = "What is due this week?";

/** A chat with one answered message. */
const asked = async (): Promise<{ chatId: string; requestId: string }> => {
  const chatId = await app.createChat();
  const { requestId } = await app.ask(chatId, question);
  return { chatId, requestId };
};

const messagesOf = async (chatId: string) => (await app.call("GET", `/chats/${chatId}/messages`)).body.items;

const chatOf = async (chatId: string) => (await app.call("GET", `/chats/${chatId}`)).body;

const statusOf = async (chatId: string, requestId: string) =>
  (await app.call("GET", `/chats/${chatId}/turns/${requestId}`)).body;

/** The audit events of mutations that name this turn. */
const mutationsOf = async (requestId: string): Promise<Record<string, unknown>[]> => {
  const { rows } = await app.db.query<{ payload: string }>(
    "select payload from outbox_message where payload like '%' || $1 || '%' order by id",
    [requestId],
  );
  return rows
    .map((row) => JSON.parse(row.payload))
    .filter((event) => event.type === "mutation" || event.type === "delete");
};

const storedFlags = async (requestId: string) =>
  (
    await app.db.query(
      `select request_fingerprint as fingerprint, web_search_enabled as "webSearch",
         on_disconnect as "onDisconnect"
       from chat_turns where request_id = $1`,
      [requestId],
    )
  ).rows[0];

const replacing = [
  { op: "retry", content: question },
  { op: "edit", content: newQuestion },
] as const;

describe.each(replacing)("$op of the latest turn (turns.md §15.2)", ({ op, content }) => {
  test("§23.17 the old turn is gone and points to its successor, which is a turn like any other", async () => {
    const old = await asked();
    const [, oldAnswer] = await messagesOf(old.chatId);
    app.simulator.enqueue({ events: [{ text: "Nothing." }] });
    const stream = await mutate(app, op, old);
    expect(stream.headers["content-type"]).toBe("text/event-stream");
    const events = await stream.rest();
    expect(events.map(({ event }) => event)).toEqual(["stream_started", "delta", "done"]);
    expect(events[0]?.data["is_new_turn"]).toBe(true);
    const requestId = String(events[0]?.data["request_id"]);
    expect(requestId).not.toBe(old.requestId);

    expect(await turnsOf(app, old.chatId)).toMatchObject([
      { requestId: old.requestId, state: "completed", deleted: true, replacedBy: requestId },
      { requestId, state: "completed", deleted: false, replacedBy: null },
    ]);
    expect(await messagesOf(old.chatId)).toMatchObject([
      { request_id: requestId, role: "user", content },
      { request_id: requestId, role: "assistant", content: "Nothing.", id: events[0]?.data["message_id"] },
    ]);
    const { rows } = await app.db.query("select from messages where request_id = $1 and deleted_at is null", [
      old.requestId,
    ]);
    expect(rows).toEqual([]);
    expect((await chatOf(old.chatId)).message_count).toBe(2);
    // The old turn stays readable by its id, and nothing of it can be changed or liked any more.
    expect(await statusOf(old.chatId, old.requestId)).toMatchObject({ state: "done" });
    const reaction = { body: { reaction: "like" } };
    const refused = await app.call("PUT", `/chats/${old.chatId}/messages/${oldAnswer.id}/reaction`, reaction);
    expect(refused.body.code).toBe("message_not_found");
  });

  test("the model is asked without the replaced turn, and with what came before it", async () => {
    const chatId = await app.createChat();
    await app.ask(chatId, "first");
    const { requestId } = await app.ask(chatId, question);
    await successorOf(await mutate(app, op, { chatId, requestId }));
    const sent = app.simulator.requests().at(-1)?.body as { input: { role: string; content: unknown }[] };
    const texts = JSON.stringify(sent.input);
    expect(sent.input.map(({ role }) => role)).toEqual(["user", "assistant", "user"]);
    expect(texts).toContain("first");
    expect(texts).toContain(content);
    expect(texts.split(question)).toHaveLength(op === "retry" ? 2 : 1);
  });

  test("what the old turn cost stays charged, the new one is charged as well, nothing stays reserved", async () => {
    const before = await creditsOf(app, callers.ann);
    const old = await asked();
    const requestId = await successorOf(await mutate(app, op, old));
    const after = await creditsOf(app, callers.ann);
    const costs = await Promise.all(
      [old.requestId, requestId].map(async (id) =>
        BigInt(Number((await eventsOf(app, id)).usage["actual_credits_micro"])),
      ),
    );
    expect(after).toEqual({
      spent: before.spent + (costs[0] ?? 0n) + (costs[1] ?? 0n),
      reserved: 0n,
      calls: before.calls + 2,
    });
    expect(costs.every((cost) => cost > 0n)).toBe(true);
  });

  test("links are copied in their order without deleted attachments; the images are sent again", async () => {
    const chatId = await app.createChat();
    const [document, gone, image] = [
      await attach(app, chatId, { kind: "document" }),
      await attach(app, chatId),
      await attach(app, chatId),
    ];
    const requestId = randomUUID();
    const ids = [image, gone, document];
    await (await app.send(chatId, { content: question, request_id: requestId, attachment_ids: ids })).rest();
    await app.db.query("update attachments set deleted_at = now() where id = $1", [gone]);
    const next = await successorOf(await mutate(app, op, { chatId, requestId }));
    const [message] = await messagesOf(chatId);
    expect(message.attachments.map((one: { attachment_id: string }) => one.attachment_id)).toEqual([
      image,
      document,
    ]);
    const sent = JSON.stringify(app.simulator.requests().at(-1)?.body);
    expect(sent).toContain(`file-${image}`);
    expect(sent).not.toContain(`file-${gone}`);
    // The old links remain with the old message.
    const { rows } = await app.db.query(
      "select from message_attachments l join messages m on m.id = l.message_id where m.request_id = $1",
      [requestId],
    );
    expect(rows).toHaveLength(3);
    const equivalent = { content, attachmentIds: [image, document], webSearch: false };
    expect((await storedFlags(next))?.["fingerprint"]).toEqual(requestFingerprint(equivalent));
    // So a send of the same under this id is a replay (turns.md §6).
    const body = { content, request_id: next, attachment_ids: [document, image] };
    const replay = await (await app.send(chatId, body)).rest();
    expect(replay[0]?.data["is_new_turn"]).toBe(false);
    // And one under the id of the replaced turn is a conflict.
    const again = await app.send(chatId, { content: question, request_id: requestId, attachment_ids: ids });
    expect(await again.problem()).toMatchObject({ status: 409, code: "request_id_conflict" });
  });

  test.each([true, false])("web search %s is kept", async (enabled) => {
    const chatId = await app.createChat();
    const requestId = randomUUID();
    await (
      await app.send(chatId, { content: question, request_id: requestId, web_search: { enabled } })
    ).rest();
    const next = await successorOf(await mutate(app, op, { chatId, requestId }));
    expect((await storedFlags(next))?.["webSearch"]).toBe(enabled);
    expect(JSON.stringify(app.simulator.requests().at(-1)?.body).includes("web_search")).toBe(enabled);
  });

  test("on_disconnect is cancel unless it is asked for", async () => {
    const old = await asked();
    const next = await successorOf(await mutate(app, op, old));
    expect((await storedFlags(next))?.["onDisconnect"]).toBe("cancel");
    const detached = await mutate(
      app,
      op,
      { ...old, requestId: next },
      op === "retry"
        ? { query: "?on_disconnect=continue" }
        : { body: { content: newQuestion, on_disconnect: "continue" } },
    );
    expect((await storedFlags(await successorOf(detached)))?.["onDisconnect"]).toBe("continue");
  });

  test("one audit event, in the transaction of the replacement", async () => {
    const old = await asked();
    const [turn] = await turnsOf(app, old.chatId);
    const next = await successorOf(await mutate(app, op, old));
    expect(await mutationsOf(old.requestId)).toEqual([
      {
        type: "mutation",
        event_type: `turn_${op}`,
        timestamp: expect.stringMatching(/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/),
        tenant_id: callers.ann.tenantId,
        requester_type: "user",
        trace_id: expect.stringMatching(/^[0-9a-f]{32}$/),
        actor_user_id: callers.ann.userId,
        chat_id: old.chatId,
        turn_id: turn?.id,
        original_request_id: old.requestId,
        new_request_id: next,
      },
    ]);
    // It is on the outbox before the new turn has ended, and only its own end tells usage.
    const { usage } = await eventsOf(app, next);
    expect(usage["request_id"]).toBe(next);
  });

  test("a client that leaves cancels the new turn; the old one stays replaced", async () => {
    const old = await asked();
    app.simulator.enqueue({ events: [{ text: "half" }, { wait_for: "never" }] });
    const stream = await mutate(app, op, old);
    await stream.until("delta");
    stream.disconnect();
    await eventually(async () => (await turnsOf(app, old.chatId)).at(-1)?.state === "cancelled");
    const [first, second] = await turnsOf(app, old.chatId);
    expect(first).toMatchObject({ deleted: true, replacedBy: second?.requestId });
    expect(await messagesOf(old.chatId)).toMatchObject([{ content }, { content: "half" }]);
  });
});

test("an edit stores its content untrimmed", async () => {
  const old = await asked();
  await successorOf(await mutate(app, "edit", old, { body: { content: "  a\n" } }));
  expect((await messagesOf(old.chatId))[0].content).toBe("  a\n");
});

test("a delete removes the turn and its messages, and nothing else", async () => {
  const chatId = await app.createChat();
  const first = await app.ask(chatId, "first");
  const { requestId } = await app.ask(chatId, question);
  const [, turn] = await turnsOf(app, chatId);
  const before = await creditsOf(app, callers.ann);
  const { updated_at: touched } = await chatOf(chatId);
  const stream = await mutate(app, "delete", { chatId, requestId });
  expect([stream.status, await stream.rest(), stream.raw()]).toEqual([204, [], ""]);
  expect(await turnsOf(app, chatId)).toMatchObject([
    { requestId: first.requestId, deleted: false },
    { requestId, state: "completed", deleted: true, replacedBy: null },
  ]);
  expect(await messagesOf(chatId)).toMatchObject([{ content: "first" }, { role: "assistant" }]);
  expect(await creditsOf(app, callers.ann)).toEqual(before);
  const chat = await chatOf(chatId);
  expect(chat.message_count).toBe(2);
  expect(chat.updated_at > touched).toBe(true);
  expect(await statusOf(chatId, requestId)).toMatchObject({ state: "done" });
  expect(await mutationsOf(requestId)).toEqual([
    {
      type: "delete",
      event_type: "turn_delete",
      timestamp: expect.any(String),
      tenant_id: callers.ann.tenantId,
      requester_type: "user",
      trace_id: expect.stringMatching(/^[0-9a-f]{32}$/),
      actor_user_id: callers.ann.userId,
      chat_id: chatId,
      turn_id: turn?.id,
      request_id: requestId,
    },
  ]);
  // The turn before it is the latest one now.
  await successorOf(await mutate(app, "retry", { chatId, requestId: first.requestId }));
});

test("a turn deleted to the last leaves an empty chat that goes on", async () => {
  const old = await asked();
  await (await mutate(app, "delete", old)).rest();
  expect(await messagesOf(old.chatId)).toEqual([]);
  const { events } = await app.ask(old.chatId, "PING");
  expect(events.at(-1)?.event).toBe("done");
});

describe.each(ops)("%s", (op) => {
  const end = async (turn: { chatId: string; requestId: string }): Promise<void> => {
    const stream = await mutate(app, op, turn);
    expect(stream.status).toBe(op === "delete" ? 204 : 200);
    await stream.rest();
  };

  test("works on failed and cancelled turns, and on the successor of a replaced one", async () => {
    const chatId = await app.createChat();
    const failed = await app.ask(chatId, "ERROR");
    expect(failed.events.at(-1)?.event).toBe("error");
    await end({ chatId, requestId: failed.requestId });

    const other = await app.createChat();
    app.simulator.enqueue({ events: [{ text: "half" }, { wait_for: "never" }] });
    const requestId = randomUUID();
    const stream = await app.send(other, { content: question, request_id: requestId });
    await stream.until("delta");
    await app.call("POST", `/chats/${other}/turns/${requestId}/cancel`);
    await stream.rest();
    await end({ chatId: other, requestId });

    const old = await asked();
    await end({ ...old, requestId: await successorOf(await mutate(app, "retry", old)) });
  });

  test("moves the chat's updated_at, and neither its title nor its model", async () => {
    const old = await asked();
    await app.call("PATCH", `/chats/${old.chatId}`, { body: { title: "Plans" } });
    const { updated_at: before, ...chat } = await chatOf(old.chatId);
    await end(old);
    const { updated_at: after, ...same } = await chatOf(old.chatId);
    expect(after > before).toBe(true);
    expect(same).toEqual({ ...chat, message_count: op === "delete" ? 0 : 2 });
  });

  test("if_turn_updated_at admits the time Turn Status tells, in any spelling of it", async () => {
    const old = await asked();
    const { updated_at } = await statusOf(old.chatId, old.requestId);
    const shifted = new Date(Date.parse(updated_at) + 7_200_000).toISOString().slice(0, 19);
    const micros = /\.(\d+)Z$/.exec(updated_at)?.[1] ?? "0";
    const query = `?if_turn_updated_at=${encodeURIComponent(`${shifted}.${micros}+02:00`)}`;
    expect((await mutate(app, op, old, { query })).status).toBe(op === "delete" ? 204 : 200);
  });

  test("is counted, timed and logged, without content", async () => {
    const old = await asked();
    const labels = `op="${op}",result="ok"`;
    const before = (await samples(app, "turn_mutation_total")).get(labels) ?? 0;
    await end(old);
    expect((await samples(app, "turn_mutation_total")).get(labels)).toBe(before + 1);
    expect((await samples(app, "turn_mutation_latency_ms_count")).get(`op="${op}"`)).toBeGreaterThan(0);
    const line = app.logs.find(
      (one) => one["processing_stage"] === "mutation" && one["request_id"] === old.requestId,
    );
    expect(line).toMatchObject({
      msg: op === "delete" ? "turn deleted" : "turn replaced",
      status: "ok",
      op,
      chat_id: old.chatId,
      tenant_id: callers.ann.tenantId,
      trace_id: expect.any(String),
    });
    expect(JSON.stringify(app.logs)).not.toContain(newQuestion);
  });
});

test("§23.18 a successor is settled by its own columns, not by those of the turn it replaced", async () => {
  const old = await asked();
  app.simulator.enqueue({ events: [{ text: "x" }], usage: "absent" });
  const next = await successorOf(await mutate(app, "edit", old, { body: { content: "x".repeat(4_000) } }));
  const [first, second] = await turnsOf(app, old.chatId);
  expect(second?.reserveTokens).not.toBe(first?.reserveTokens);
  const { usage } = await eventsOf(app, next);
  expect(usage).toMatchObject({ settlement_method: "estimated", turn_id: second?.id });
});
