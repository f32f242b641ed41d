import { afterAll, beforeAll, describe, expect, expectTypeOf, test } from "vitest";
import {
  type Chat,
  type CodeOf,
  type CompletedTurn,
  createClient,
  type ExportedChat,
  type Listing,
  type Message,
  type TurnResult,
} from "../src/index.ts";
import { type ClientApp, eventsOf, startClientApp } from "./support.ts";

let app: ClientApp;
let client: ClientApp["client"];
beforeAll(async () => {
  app = await startClientApp();
  client = app.client;
});
afterAll(() => app.close());

const completed = async (turn: { result(): Promise<TurnResult> }): Promise<CompletedTurn> => {
  const result = await turn.result();
  if (result.state !== "completed") throw new Error(`the turn is ${result.state}`);
  return result;
};

describe("chats", () => {
  test("are created, read, renamed, listed and removed", async () => {
    const chat = await client.chats.create({ title: "Plans", model: "premium" });
    expect(chat).toMatchObject({ title: "Plans", model: "premium", message_count: 0, is_temporary: false });
    expect(await client.chats.get(chat.id)).toEqual(chat);
    expect((await client.chats.rename(chat.id, "Other plans")).title).toBe("Other plans");
    const { items } = await client.chats.list({ filter: "title eq 'Other plans'" }).page();
    expect(items.map(({ id }) => id)).toEqual([chat.id]);
    await client.chats.remove(chat.id);
    await expect(client.chats.get(chat.id)).rejects.toMatchObject({ code: "chat_not_found" });
  });

  test("are exported as text or as data", async () => {
    const chat = await client.chats.create({ title: "To take home" });
    await completed(client.send(chat.id, { content: "first" }));
    expect(await client.chats.export(chat.id, "markdown")).toContain("To take home");
    const exported = await client.chats.export(chat.id, "json");
    expectTypeOf(exported).toEqualTypeOf<ExportedChat>();
    expect(exported.messages.map(({ role }) => role)).toEqual(["user", "assistant"]);
  });
});

describe("lists", () => {
  test("walk all pages in order, item by item or page by page, and stop when left", async () => {
    const chat = await client.chats.create();
    for (const content of ["one", "two", "three"]) await completed(client.send(chat.id, { content }));
    const contents: string[] = [];
    const query = { limit: 2, orderby: "created_at desc", filter: "role eq 'user'" } as const;
    for await (const { content } of client.messages(chat.id, query)) contents.push(content);
    expect(contents).toEqual(["three", "two", "one"]);
    const sizes: number[] = [];
    for await (const { items } of client.messages(chat.id, { limit: 4 }).pages()) sizes.push(items.length);
    expect(sizes).toEqual([4, 2]);
    for await (const message of client.messages(chat.id, { limit: 1 })) {
      expect(message.content).toBe("one");
      break;
    }
  });

  test("go on from a cursor in the order it was made with, forwards and back", async () => {
    const chat = await client.chats.create();
    for (const content of ["one", "two"]) await completed(client.send(chat.id, { content }));
    const query = { limit: 1, orderby: "created_at desc", filter: "role eq 'user'" } as const;
    const first = await client.messages(chat.id, query).page();
    const cursor = first.page_info.next_cursor ?? "";
    const second = await client.messages(chat.id, { ...query, cursor }).page();
    expect(second.items[0]?.content).toBe("one");
    const back = second.page_info.prev_cursor ?? "";
    expect((await client.messages(chat.id, { ...query, cursor: back }).page()).items).toEqual(first.items);
  });

  test("narrow their items to the selected fields, also for the compiler", async () => {
    const chat = await client.chats.create();
    await completed(client.send(chat.id, { content: "hi" }));
    const listing = client.messages(chat.id, { select: ["role", "my_reaction"] });
    expectTypeOf(listing).toEqualTypeOf<Listing<Pick<Message, "role" | "my_reaction">>>();
    expect((await listing.page()).items).toEqual([
      { role: "user", my_reaction: null },
      { role: "assistant", my_reaction: null },
    ]);
    expectTypeOf(client.chats.list()).toEqualTypeOf<Listing<Pick<Chat, keyof Chat>>>();
  });

  test("a refused query is thrown where it is read", async () => {
    await expect(client.chats.list({ filter: "title eq" }).page()).rejects.toMatchObject({
      code: "invalid_filter",
    });
  });
});

describe("turns", () => {
  test("retry and edit replace the turn and stream the new one", async () => {
    const chat = await client.chats.create();
    const first = await completed(client.send(chat.id, { content: "question" }));
    const retried = client.turns.retry(chat.id, first.requestId);
    expect(retried.requestId).toBeUndefined();
    const second = await completed(retried);
    expect(retried.requestId).toBe(second.requestId);
    expect(second.requestId).not.toBe(first.requestId);
    const edited = client.turns.edit(chat.id, second.requestId, { content: "another" });
    expect((await eventsOf(edited)).at(0)).toMatchObject({ type: "stream_started" });
    const { items } = await client.messages(chat.id).page();
    expect(items.map(({ content }) => content)).toEqual(["another", (await completed(edited)).text]);
  });

  test("a mutation that names an old state of the turn is refused", async () => {
    const chat = await client.chats.create();
    const { requestId } = await completed(client.send(chat.id, { content: "question" }));
    const stale = { if_turn_updated_at: "2020-01-01T00:00:00Z" };
    const { updated_at } = await client.turns.status(chat.id, requestId);
    for (const mutate of [
      () => client.turns.retry(chat.id, requestId, stale).result(),
      () => client.turns.edit(chat.id, requestId, { content: "x" }, stale).result(),
      () => client.turns.remove(chat.id, requestId, stale),
    ]) {
      await expect(mutate()).rejects.toMatchObject({ code: "not_latest_turn" });
    }
    await client.turns.remove(chat.id, requestId, { if_turn_updated_at: updated_at });
    expect((await client.messages(chat.id).page()).items).toEqual([]);
  });

  test("cancel stops the answer and keeps its text", async () => {
    const chat = await client.chats.create();
    app.simulator.enqueue({ events: [{ text: "half" }, { wait_for: "never" }] });
    const turn = client.send(chat.id, { content: "hi" });
    for await (const event of turn) if (event.type === "delta") break;
    expect(await turn.cancel()).toMatchObject({ state: "cancelled", assistant_message_id: turn.messageId });
    expect(await turn.result()).toEqual({
      state: "cancelled",
      requestId: turn.requestId,
      messageId: turn.messageId,
      text: "half",
      citations: [],
    });
    expect(await client.turns.cancel(chat.id, turn.requestId)).toMatchObject({ state: "cancelled" });
  });

  test("a failed answer is a result with the code of the failure", async () => {
    const chat = await client.chats.create();
    app.simulator.enqueue({ events: [{ text: "half" }], error: { code: "server_error", message: "no" } });
    const turn = client.send(chat.id, { content: "hi" });
    expect(await turn.result()).toMatchObject({ state: "failed", code: "provider_error", text: "half" });
    expect(await client.turns.status(chat.id, turn.requestId)).toMatchObject({
      state: "error",
      error_code: "provider_error",
    });
  });
});

describe("attachments", () => {
  test("are uploaded, read, named in a message, and locked by it", async () => {
    const chat = await client.chats.create();
    const file = new File(["Two items are due."], "plan.txt", { type: "text/plain" });
    const uploaded = await client.attachments.upload(chat.id, file);
    expect(uploaded).toMatchObject({ filename: "plan.txt", kind: "document", size_bytes: 18 });
    const ready = await client.attachments.settled(chat.id, uploaded.id);
    expect(ready.status).toBe("ready");
    expect(await client.attachments.get(chat.id, uploaded.id)).toEqual(ready);
    await completed(client.send(chat.id, { content: "what is due?", attachment_ids: [uploaded.id] }));
    const [question] = (await client.messages(chat.id).page()).items;
    expect(question?.attachments.map(({ attachment_id }) => attachment_id)).toEqual([uploaded.id]);
    await expect(client.attachments.remove(chat.id, uploaded.id)).rejects.toMatchObject({
      code: "attachment_locked",
    });
  });

  test("are refused by type, and removed as often as one likes", async () => {
    const chat = await client.chats.create();
    const program = new File(["\u007fELF"], "a.exe", { type: "application/x-msdownload" });
    await expect(client.attachments.upload(chat.id, program)).rejects.toMatchObject({
      code: "unsupported_file_type",
    });
    const { id } = await client.attachments.upload(chat.id, new Blob(["x"], { type: "text/plain" }), {
      filename: "a.txt",
      onProgress: () => {},
    });
    await client.attachments.remove(chat.id, id);
    await client.attachments.remove(chat.id, id);
    await expect(client.attachments.get(chat.id, id)).rejects.toMatchObject({ code: "attachment_not_found" });
  });
});

test("reactions, models, quota and search", async () => {
  const chat = await client.chats.create({ title: "Zebras" });
  app.simulator.enqueue({ events: [{ text: "Stripes of zebras" }] });
  const { messageId } = await completed(client.send(chat.id, { content: "why" }));
  expect(await client.reactions.set(chat.id, messageId, "like")).toMatchObject({ reaction: "like" });
  expect((await client.messages(chat.id).page()).items[1]?.my_reaction).toBe("like");
  await client.reactions.remove(chat.id, messageId);
  expect((await client.models.list()).map(({ model_id }) => model_id)).toEqual(["standard", "premium"]);
  expect((await client.models.get("premium")).tier).toBe("premium");
  expect((await client.quota()).tiers.map(({ tier }) => tier)).toEqual(["premium", "total"]);
  const hits: string[][] = [];
  for await (const { kind, chat_id } of client.search("zebras", { limit: 1 })) hits.push([kind, chat_id]);
  expect(hits.toSorted()).toEqual([
    ["message", chat.id],
    ["title", chat.id],
  ]);
});

test("below a prefix the paths are the same", async () => {
  const prefixed = await startClientApp({
    database: app.database,
    simulator: app.simulator,
    config: { url_prefix: "/cf/mini-chat" },
  });
  try {
    expect(await prefixed.client.models.list()).toHaveLength(2);
  } finally {
    await prefixed.close();
  }
});

test("types say what an operation may refuse with, and tell the ends of a turn apart", () => {
  expectTypeOf<"request_id_conflict">().toExtend<CodeOf<"sendMessage">>();
  expectTypeOf<"invalid_cursor">().not.toExtend<CodeOf<"sendMessage">>();
  expectTypeOf<Extract<TurnResult, { state: "completed" }>["messageId"]>().toEqualTypeOf<string>();
  expectTypeOf<Extract<TurnResult, { state: "uncertain" }>["requestId"]>().toEqualTypeOf<
    string | undefined
  >();
  const turn = createClient({ baseUrl: "", token: "x" }).send;
  expectTypeOf(turn).returns.toHaveProperty("requestId").toEqualTypeOf<string>();
  // @ts-expect-error: a message needs content
  expectTypeOf(turn).toBeCallableWith("chat", {});
});
