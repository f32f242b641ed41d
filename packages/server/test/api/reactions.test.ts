import { randomUUID } from "node:crypto";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { type Caller, callers } from "../support/config.ts";
import { mutate, ops } from "../turns/mutation-support.ts";
import { makeResources, type Resources } from "./operations.ts";
import { type ApiApp, dataDigest, startApiApp } from "./support.ts";

let app: ApiApp;
let mine: Resources;
beforeAll(async () => {
  app = await startApiApp();
  mine = await makeResources(app);
});
afterAll(() => app.close());

const pathOf = ({ chatId, messageId }: Pick<Resources, "chatId" | "messageId">): string =>
  `/chats/${chatId}/messages/${messageId}/reaction`;

const react = (
  of: Pick<Resources, "chatId" | "messageId">,
  reaction: unknown,
  caller: Caller = callers.ann,
) => app.call("PUT", pathOf(of), { body: { reaction }, caller });

const listed = async (of: Resources) =>
  (await app.call("GET", `/chats/${of.chatId}/messages`)).body.items.map(
    (item: { my_reaction: unknown }) => item.my_reaction,
  );

const questionOf = async ({ chatId }: Resources): Promise<string> =>
  (await app.call("GET", `/chats/${chatId}/messages`)).body.items[0].id;

describe("reactions (turns.md §18)", () => {
  test("are set, changed, set again and taken back; one per user and message", async () => {
    const like = await react(mine, "like");
    expect([like.status, like.body]).toEqual([
      200,
      { message_id: mine.messageId, reaction: "like", created_at: expect.any(String) },
    ]);
    expect(await listed(mine)).toEqual([null, "like"]);
    const dislike = await react(mine, "dislike");
    expect(dislike.body.created_at > like.body.created_at).toBe(true);
    expect(await listed(mine)).toEqual([null, "dislike"]);
    const again = await react(mine, "dislike");
    expect(again.body.created_at > dislike.body.created_at).toBe(true);
    const { rowCount } = await app.db.query("select from message_reactions where message_id = $1", [
      mine.messageId,
    ]);
    expect(rowCount).toBe(1);
    for (let times = 0; times < 2; times += 1) {
      expect((await app.call("DELETE", pathOf(mine))).status).toBe(204);
      expect(await listed(mine)).toEqual([null, null]);
    }
  });

  test("many at once leave one row", async () => {
    const answers = await Promise.all(
      Array.from({ length: 20 }, (_, at) => react(mine, at % 2 === 0 ? "like" : "dislike")),
    );
    expect(new Set(answers.map(({ status }) => status))).toEqual(new Set([200]));
    const { rows } = await app.db.query<{ reaction: string }>(
      "select reaction from message_reactions where message_id = $1",
      [mine.messageId],
    );
    expect(rows).toHaveLength(1);
    expect(await listed(mine)).toEqual([null, rows[0]?.reaction]);
  });

  test("a reaction does not move the chat", async () => {
    const before = (await app.call("GET", `/chats/${mine.chatId}`)).body;
    await react(mine, "like");
    expect((await app.call("GET", `/chats/${mine.chatId}`)).body).toEqual(before);
  });

  test("the kept text of a cancelled turn takes them", async () => {
    const chatId = await app.createChat();
    const requestId = randomUUID();
    app.simulator.enqueue({ events: [{ text: "half" }, { wait_for: "never" }] });
    const stream = await app.send(chatId, { content: "hi", request_id: requestId });
    await stream.until("delta");
    await app.call("POST", `/chats/${chatId}/turns/${requestId}/cancel`);
    await stream.rest();
    const status = (await app.call("GET", `/chats/${chatId}/turns/${requestId}`)).body;
    expect(status.state).toBe("cancelled");
    expect((await react({ chatId, messageId: status.assistant_message_id }, "like")).status).toBe(200);
  });

  test.each(["", "love", "LIKE", "null"])("%j is 400 before anything else is looked at", async (reaction) => {
    const before = await dataDigest(app.db);
    const nowhere = { chatId: randomUUID(), messageId: randomUUID() };
    const { status, body } = await react(nowhere, reaction);
    expect([status, body.code, body.title]).toEqual([400, "invalid_request", "Validation Error"]);
    expect(body.errors).toEqual([{ field: "reaction", message: "must be like or dislike" }]);
    expect(await dataDigest(app.db)).toEqual(before);
  });

  test("a question takes none: 400 to set, 204 to take back", async () => {
    const question = { ...mine, messageId: await questionOf(mine) };
    const before = await dataDigest(app.db);
    const { status, body } = await react(question, "like");
    expect([status, body.code, body.title]).toEqual([
      400,
      "invalid_reaction_target",
      "Invalid Reaction Target",
    ]);
    expect((await app.call("DELETE", pathOf(question))).status).toBe(204);
    expect(await dataDigest(app.db)).toEqual(before);
  });

  test("a message of another chat, user or tenant, or of none, is not there", async () => {
    const [other, bobs] = [await makeResources(app), await makeResources(app, callers.bob)];
    const before = await dataDigest(app.db);
    for (const messageId of [other.messageId, bobs.messageId, randomUUID()]) {
      for (const answer of [
        await react({ ...mine, messageId }, "like"),
        await app.call("DELETE", pathOf({ ...mine, messageId })),
      ]) {
        expect([answer.status, answer.body.title]).toEqual([404, "Message Not Found"]);
      }
    }
    for (const caller of [callers.amy, callers.bob]) {
      expect((await react(mine, "like", caller)).body.code).toBe("chat_not_found");
    }
    expect(await dataDigest(app.db)).toEqual(before);
  });

  test.each(ops)("vanish with a message that a %s took away", async (op) => {
    const of = await makeResources(app);
    await react(of, "like");
    await (await mutate(app, op, of)).rest();
    expect((await listed(of)).filter((one: unknown) => one !== null)).toEqual([]);
    expect((await react(of, "dislike")).body.code).toBe("message_not_found");
    expect((await app.call("DELETE", pathOf(of))).body.code).toBe("message_not_found");
  });
});
