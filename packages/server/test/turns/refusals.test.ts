import { randomUUID } from "node:crypto";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { Tree } from "../../src/config/tree.ts";
import { startTestApp, type TestApp } from "../support/app.ts";
import { callers, modelEntry, premiumEntry } from "../support/config.ts";

const catalog = (more: Tree = {}): Tree => ({
  // Nobody delivers: what a refusal left on the outbox would stay there to be seen.
  role: "api",
  plugins: {
    model_policy: {
      static: {
        model_catalog: [
          modelEntry("standard", { preference: { is_default: true, sort_order: 0 } }),
          modelEntry("small", { max_input_tokens: 150, context_window: 8_192 }),
          modelEntry("narrow", { context_window: 4_300, max_input_tokens: 10_000_000 }),
          premiumEntry("premium", { multimodal_capabilities: ["VISION_INPUT"] }),
        ],
        ...more,
      },
    },
  },
});

let app: TestApp;
/** As `app`, with everything that can be refused by policy refused. */
let strict: TestApp;
beforeAll(async () => {
  app = await startTestApp({ config: catalog() });
  strict = await startTestApp({
    database: app.database,
    simulator: app.simulator,
    config: catalog({
      kill_switches: { disable_web_search: true, disable_images: true },
      default_standard_limits: { limit_daily_credits_micro: 5, limit_monthly_credits_micro: 5 },
    }),
  });
});
afterAll(async () => {
  await strict.close();
  await app.close();
});

const counts = async (): Promise<unknown> =>
  (
    await app.db.query(`select
      (select count(*) from chat_turns) as turns, (select count(*) from messages) as messages,
      (select count(*) from message_attachments) as links, (select count(*) from outbox_message) as events,
      (select json_agg(q order by id) from quota_usage q) as quota`)
  ).rows;

interface Attachment {
  readonly kind?: "image" | "document";
  readonly status?: string;
  readonly userId?: string;
  readonly backend?: string;
}

const attach = async (chatId: string, more: Attachment = {}): Promise<string> => {
  const { kind = "image", status = "ready", userId = callers.ann.userId, backend = "sim" } = more;
  const id = randomUUID();
  await app.db.query(
    `insert into attachments (id, tenant_id, chat_id, uploaded_by_user_id, filename, content_type, size_bytes,
       storage_backend, provider_id, provider_file_id, status, attachment_kind)
     values ($1, $2, $3, $4, 'a', 'image/png', 1, $5, 'sim', $6, $7, $8)`,
    [id, callers.ann.tenantId, chatId, userId, backend, `file-${id}`, status, kind],
  );
  return id;
};

interface Refusal {
  readonly status: number;
  readonly code: string;
  readonly title: string;
  readonly quota_scope?: string;
}

/** Sends, expects the refusal, and that nothing at all was written (§23.3). */
const expectRefused = async (
  door: TestApp,
  chatId: string,
  body: object,
  refusal: Refusal,
): Promise<void> => {
  const before = await counts();
  const stream = await door.send(chatId, body);
  expect(await stream.problem()).toMatchObject(refusal);
  expect(stream.headers["content-type"]).toBe("application/problem+json");
  expect(await counts()).toEqual(before);
};

const same = (code: string, status: number, more: Partial<Refusal> = {}): Refusal => ({
  status,
  code,
  title: code,
  ...more,
});
const quota = (scope: string): Refusal => same("quota_exceeded", 429, { quota_scope: scope });

describe("§23.3 the order of checks of a send (turns.md §4.2); each names what a later one would refuse too", () => {
  test("rows 2–4: blank content before the chat, the chat before everything in it", async () => {
    const foreign = await app.createChat(callers.bob);
    await expectRefused(
      app,
      foreign,
      { content: " \n" },
      {
        status: 400,
        code: "invalid_request",
        title: "Bad Request",
      },
    );
    await expectRefused(
      strict,
      foreign,
      { content: "hi", web_search: { enabled: true } },
      {
        status: 404,
        code: "chat_not_found",
        title: "Error",
      },
    );
  });

  test("row 7 before row 8: a running turn before too many images", async () => {
    const chatId = await app.createChat();
    app.simulator.enqueue({ events: [{ text: "x" }, { wait_for: "row-7" }] });
    const running = await app.send(chatId, { content: "hi" });
    await running.until("delta");
    const images = await Promise.all(Array.from({ length: 5 }, () => attach(chatId)));
    await expectRefused(
      app,
      chatId,
      { content: "x", attachment_ids: images },
      same("generation_in_progress", 409),
    );
    app.simulator.open("row-7");
    await running.rest();
  });

  test("row 8 before row 10: too many images before the switch of web search", async () => {
    const chatId = await app.createChat();
    const images = await Promise.all(Array.from({ length: 5 }, () => attach(chatId)));
    await expectRefused(
      strict,
      chatId,
      { content: "x", attachment_ids: images, web_search: { enabled: true } },
      same("too_many_images", 400),
    );
  });

  test("row 10 before row 11: the switch of web search before the credits", async () => {
    const chatId = await app.createChat();
    await expectRefused(
      strict,
      chatId,
      { content: "x", web_search: { enabled: true } },
      same("web_search_disabled", 400),
    );
  });

  test("row 11 before rows 15–18: the credits before the attachments", async () => {
    const chatId = await app.createChat();
    const image = await attach(chatId);
    await expectRefused(
      strict,
      chatId,
      { content: "x".repeat(1_000_000), attachment_ids: [image, image] },
      quota("tokens"),
    );
  });

  test("rows 12 and 14: what the day allows, only for what this message uses (quota.md §15.11)", async () => {
    const chatId = await app.createChat();
    await app.ask(chatId, "makes the rows of the day");
    const spend = (column: string, value: number) =>
      app.db.query(
        `update quota_usage set ${column} = $1 where user_id = $2 and period_type = 'daily' and bucket = 'total'`,
        [value, callers.ann.userId],
      );
    await spend("web_search_calls", 75);
    const searching = { content: "x".repeat(600_000), web_search: { enabled: true } };
    await expectRefused(app, chatId, searching, quota("web_search"));
    expect((await app.ask(chatId, "without the web")).events.at(-1)?.event).toBe("done");
    await spend("web_search_calls", 0);
    await spend("image_inputs", 48);
    const images = await Promise.all(Array.from({ length: 3 }, () => attach(chatId)));
    await expectRefused(app, chatId, { content: "x", attachment_ids: images }, quota("image_inputs"));
    await spend("image_inputs", 0);
  });

  test("row 15: a text longer than the effective model reads", async () => {
    const chatId = await app.createChat(undefined, { model: "small" });
    const image = await attach(chatId);
    await expectRefused(
      app,
      chatId,
      { content: "x".repeat(600), attachment_ids: [image] },
      same("input_too_long", 422),
    );
  });

  test("row 17: images the effective model, or its provider's storage, cannot read", async () => {
    const blind = await app.createChat();
    const body = { content: "x", attachment_ids: [await attach(blind)] };
    await expectRefused(app, blind, body, same("unsupported_media", 415));
    const seeing = await app.createChat(undefined, { model: "premium" });
    const elsewhere = { content: "x", attachment_ids: [await attach(seeing, { backend: "elsewhere" })] };
    await expectRefused(app, seeing, elsewhere, same("unsupported_media", 415));
  });

  test.each<[string, Attachment]>([
    ["not ready", { kind: "document", status: "pending" }],
    ["another user's", { kind: "document", userId: callers.amy.userId }],
  ])("row 18: an attachment that is %s", async (_what, attachment) => {
    const chatId = await app.createChat();
    const body = { content: "x", attachment_ids: [await attach(chatId, attachment)] };
    await expectRefused(app, chatId, body, same("invalid_attachment", 400));
  });

  test("row 18: an attachment named twice, of another chat, or of nobody", async () => {
    const chatId = await app.createChat();
    const own = await attach(chatId, { kind: "document" });
    const others = await attach(await app.createChat(), { kind: "document" });
    for (const ids of [[own, own], [others], [randomUUID()]]) {
      await expectRefused(
        app,
        chatId,
        { content: "x", attachment_ids: ids },
        same("invalid_attachment", 400),
      );
    }
  });

  test("row 19: a message that does not fit the context tells both numbers", async () => {
    const chatId = await app.createChat(undefined, { model: "narrow" });
    const before = await counts();
    const stream = await app.send(chatId, { content: "x".repeat(4_000) });
    // 4,300 − 4,096 − 100 are left; the message alone costs 1,210 (context.md §4).
    expect(await stream.problem()).toMatchObject({
      ...same("context_budget_exceeded", 422),
      context: { required_tokens: 1_210, available_tokens: 104 },
    });
    expect(await counts()).toEqual(before);
  });

  test("images that may be sent are linked in order and counted for good", async () => {
    const chatId = await app.createChat(undefined, { model: "premium" });
    const ids = [await attach(chatId), await attach(chatId)];
    const requestId = randomUUID();
    const stream = await app.send(chatId, { content: "look", attachment_ids: ids, request_id: requestId });
    expect((await stream.rest()).at(-1)?.event).toBe("done");
    const { body } = await app.call("GET", `/chats/${chatId}/messages`);
    expect(body.items[0].attachments.map((one: { attachment_id: string }) => one.attachment_id)).toEqual(ids);
    const call = app.simulator.requests().at(-1)?.body as { input: { content: object[] }[] };
    expect(call.input.at(-1)?.content).toEqual([
      { type: "input_text", text: "look" },
      ...ids.map((id) => ({ type: "input_image", file_id: `file-${id}` })),
    ]);
  });
});
