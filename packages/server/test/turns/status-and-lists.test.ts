import { randomUUID } from "node:crypto";
import { afterAll, afterEach, beforeAll, describe, expect, test } from "vitest";
import { startTestApp, type TestApp } from "../support/app.ts";
import { callers, modelEntry } from "../support/config.ts";
import { attach, turnRow } from "./support.ts";

let app: TestApp;
beforeAll(async () => {
  app = await startTestApp({
    config: {
      plugins: {
        model_policy: {
          static: {
            model_catalog: [
              modelEntry("standard", {
                preference: { is_default: true, sort_order: 0 },
                multimodal_capabilities: ["VISION_INPUT"],
              }),
            ],
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

const time = expect.stringMatching(/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,6})?Z$/);

const statusOf = async (chatId: string, requestId: string) =>
  (await app.call("GET", `/chats/${chatId}/turns/${requestId}`)).body;

const chatOf = async (chatId: string) => (await app.call("GET", `/chats/${chatId}`)).body;

const messagesOf = async (chatId: string, query = "") =>
  (await app.call("GET", `/chats/${chatId}/messages${query}`)).body.items;

const begin = async (chatId: string, text: string | null, gate: string) => {
  const requestId = randomUUID();
  app.simulator.enqueue({ events: [...(text === null ? [] : [{ text }]), { wait_for: gate }] });
  const stream = await app.send(chatId, { content: gate, request_id: requestId });
  await stream.until(text === null ? "stream_started" : "delta");
  return { requestId, stream };
};

const cancel = async (chatId: string, text: string | null): Promise<string> => {
  const { requestId, stream } = await begin(chatId, text, "cancelled");
  await app.call("POST", `/chats/${chatId}/turns/${requestId}/cancel`);
  await stream.rest();
  return requestId;
};

describe("Turn Status (turns.md §14): exactly these fields", () => {
  test("running, then done with its message", async () => {
    const chatId = await app.createChat();
    const { requestId, stream } = await begin(chatId, "x", "seen");
    const running = await statusOf(chatId, requestId);
    expect(running).toEqual({ request_id: requestId, state: "running", updated_at: time });
    app.simulator.open("seen");
    const done = (await stream.rest()).at(-1);
    expect(done?.event).toBe("done");
    const status = await statusOf(chatId, requestId);
    expect(status).toEqual({
      request_id: requestId,
      state: "done",
      assistant_message_id: (await turnRow(app, requestId)).messageId,
      updated_at: time,
    });
    expect(status.updated_at > running.updated_at).toBe(true);
  });

  test("error with its code, and no message", async () => {
    const chatId = await app.createChat();
    const { requestId } = await app.ask(chatId, "ERROR");
    expect(await statusOf(chatId, requestId)).toEqual({
      request_id: requestId,
      state: "error",
      error_code: "provider_error",
      updated_at: time,
    });
  });

  test("cancelled with its message iff text was kept", async () => {
    const chatId = await app.createChat();
    const kept = await cancel(chatId, "some");
    const empty = await cancel(chatId, null);
    const common = { state: "cancelled", updated_at: time };
    expect(await statusOf(chatId, kept)).toEqual({
      ...common,
      request_id: kept,
      assistant_message_id: (await turnRow(app, kept)).messageId,
    });
    expect(await statusOf(chatId, empty)).toEqual({ ...common, request_id: empty });
  });

  test("a deleted turn stays readable; chats and turns that are not there are 404", async () => {
    const chatId = await app.createChat();
    const { requestId } = await app.ask(chatId, "PING");
    await app.db.query("update chat_turns set deleted_at = now() where request_id = $1", [requestId]);
    expect(await statusOf(chatId, requestId)).toMatchObject({ state: "done" });
    const path = `/chats/${chatId}/turns/${requestId}`;
    for (const caller of [callers.amy, callers.bob]) {
      expect((await app.call("GET", path, { caller })).body).toMatchObject({ code: "chat_not_found" });
    }
    for (const elsewhere of [
      `/chats/${chatId}/turns/${randomUUID()}`,
      `/chats/${await app.createChat()}/turns/${requestId}`,
    ]) {
      expect((await app.call("GET", elsewhere)).body).toMatchObject({ code: "turn_not_found", status: 404 });
    }
    await app.call("DELETE", `/chats/${chatId}`);
    expect((await app.call("GET", path)).body).toMatchObject({ code: "chat_not_found", status: 404 });
  });
});

describe("the messages of a chat (turns.md §17)", () => {
  test("§23.14 questions of turns in any state, answers of completed ones, parts of cancelled ones", async () => {
    const chatId = await app.createChat();
    const answered = (await app.ask(chatId, "PING")).requestId;
    const failed = (await app.ask(chatId, "ERROR")).requestId;
    const partial = await cancel(chatId, "part");
    const silent = await cancel(chatId, null);
    const { requestId: running, stream } = await begin(chatId, "not yet", "listed");
    const item = (role: string, content: string, requestId: string, more: object = {}) => ({
      id: expect.any(String),
      request_id: requestId,
      role,
      content,
      attachments: [],
      my_reaction: null,
      ...more,
      created_at: time,
    });
    const tokens = { input_tokens: 50, output_tokens: 12 };
    expect(await messagesOf(chatId)).toEqual([
      item("user", "PING", answered),
      item("assistant", "PONG", answered, { model: "standard", ...tokens }),
      item("user", "ERROR", failed),
      item("user", "cancelled", partial),
      item("assistant", "part", partial, { model: "standard" }),
      item("user", "cancelled", silent),
      item("user", "listed", running),
    ]);
    app.simulator.open("listed");
    await stream.rest();
  });

  test("neither deleted messages, nor such without request_id; compressed ones are listed", async () => {
    const chatId = await app.createChat();
    const { requestId } = await app.ask(chatId, "PING");
    await app.ask(chatId, "gone");
    await app.db.query("update messages set deleted_at = now() where chat_id = $1 and content = 'gone'", [
      chatId,
    ]);
    await app.db.query("update messages set is_compressed = true where request_id = $1", [requestId]);
    await app.db.query(
      `insert into messages (id, tenant_id, chat_id, role, content, request_kind)
       values ($1, $2, $3, 'system', 'a summary', 'summary')`,
      [randomUUID(), callers.ann.tenantId, chatId],
    );
    const contents = (await messagesOf(chatId)).map((message: { content: string }) => message.content);
    expect(contents).toEqual(["PING", "PONG", "Hello from the simulator."]);
  });

  test("attachments in the order sent; deleted ones left out", async () => {
    const chatId = await app.createChat();
    const ids = [
      await attach(app, chatId),
      await attach(app, chatId),
      await attach(app, chatId),
    ].toReversed();
    await (await app.send(chatId, { content: "look", attachment_ids: ids })).rest();
    await app.db.query("update attachments set deleted_at = now() where id = $1", [ids[1]]);
    const [question] = await messagesOf(chatId);
    expect(question.attachments).toEqual(
      [ids[0], ids[2]].map((attachment_id) => ({
        attachment_id,
        kind: "image",
        filename: "a",
        status: "ready",
      })),
    );
  });

  test("pages forward and back, both roles alone, chosen fields", async () => {
    const chatId = await app.createChat();
    for (const content of ["one", "two", "three"]) await app.ask(chatId, content);
    const answer = "Hello from the simulator.";
    const all = (await messagesOf(chatId)).map((message: { id: string }) => message.id);
    expect(all).toHaveLength(6);
    const first = (await app.call("GET", `/chats/${chatId}/messages?limit=4`)).body;
    expect(first.page_info).toEqual({ limit: 4, next_cursor: expect.any(String), prev_cursor: null });
    const cursor = encodeURIComponent(first.page_info.next_cursor);
    const second = (await app.call("GET", `/chats/${chatId}/messages?limit=4&cursor=${cursor}`)).body;
    expect([...first.items, ...second.items].map((message) => message.id)).toEqual(all);
    const back = encodeURIComponent(second.page_info.prev_cursor);
    const again = (await app.call("GET", `/chats/${chatId}/messages?limit=4&cursor=${back}`)).body;
    expect(again.items).toEqual(first.items);
    expect(await messagesOf(chatId, "?$filter=role eq 'assistant'&$select=content")).toEqual(
      [answer, answer, answer].map((content) => ({ content })),
    );
    expect(await messagesOf(chatId, "?$orderby=created_at desc&$select=id")).toEqual(
      all.toReversed().map((id: string) => ({ id })),
    );
  });
});

describe("what a turn does to its chat (turns.md §19)", () => {
  test("a send moves it to the top of the list; the end of the turn does not touch it", async () => {
    const older = await app.createChat(callers.bob);
    const newer = await app.createChat(callers.bob);
    const order = async () =>
      (await app.call("GET", "/chats", { caller: callers.bob })).body.items.map(
        (chat: { id: string }) => chat.id,
      );
    expect(await order()).toEqual([newer, older]);
    app.simulator.enqueue({ events: [{ text: "x" }, { wait_for: "moved" }] });
    const stream = await app.send(older, { content: "hi" }, callers.bob);
    await stream.until("delta");
    expect(await order()).toEqual([older, newer]);
    const read = async () => (await app.call("GET", `/chats/${older}`, { caller: callers.bob })).body;
    const during = await read();
    app.simulator.open("moved");
    await stream.rest();
    expect(await read()).toEqual({ ...during, message_count: 2 });
  });

  test("neither title nor model change, `message_count` counts what is not deleted", async () => {
    const chatId = await app.createChat(callers.ann, { title: "Mine" });
    await app.ask(chatId, "PING");
    await app.ask(chatId, "ERROR");
    await cancel(chatId, "part");
    expect(await chatOf(chatId)).toMatchObject({ title: "Mine", model: "standard", message_count: 5 });
    await app.db.query("update messages set deleted_at = now() where chat_id = $1 and content = 'PONG'", [
      chatId,
    ]);
    expect(await chatOf(chatId)).toMatchObject({ message_count: 4 });
  });

  test("a refused send leaves `updated_at` as it is", async () => {
    const chatId = await app.createChat();
    const before = await chatOf(chatId);
    const refused = await app.send(chatId, { content: "x", attachment_ids: [randomUUID()] });
    expect(refused.status).toBe(400);
    expect(await chatOf(chatId)).toEqual(before);
  });

  test("§1: times within a chat strictly increase, also when the clock stood in the future", async () => {
    const chatId = await app.createChat();
    const one = await app.ask(chatId, "one");
    for (const table of ["messages", "chat_turns"]) {
      const column = table === "messages" ? "created_at" : "started_at";
      await app.db.query(`alter table ${table} disable trigger user`);
      await app.db.query(`update ${table} set ${column} = ${column} + interval '1 hour' where chat_id = $1`, [
        chatId,
      ]);
      await app.db.query(`alter table ${table} enable trigger user`);
    }
    const two = await app.ask(chatId, "two");
    const contents = (await messagesOf(chatId)).map((message: { content: string }) => message.content);
    const answer = "Hello from the simulator.";
    expect(contents).toEqual(["one", answer, "two", answer]);
    const { rows } = await app.db.query<{ id: string }>(
      "select request_id as id from chat_turns where chat_id = $1 order by started_at",
      [chatId],
    );
    expect(rows.map((row) => row.id)).toEqual([one.requestId, two.requestId]);
  });
});
