import { randomUUID } from "node:crypto";
import { afterAll, beforeEach, describe, expect, test } from "vitest";
import { asTenantId, asUserId } from "../../src/auth/actor.ts";
import { type ScopeRules, scopeFor } from "../../src/auth/scope.ts";
import { searchChats } from "../../src/search/search.ts";
import { startApiApp } from "../api/support.ts";
import { type Caller, callers } from "../support/config.ts";

const app = await startApiApp({ config: { role: "api" } });
afterAll(() => app.close());
beforeEach(() => app.db.query("delete from chats"));

const { ann } = callers;

interface Stored {
  readonly caller?: Caller;
  readonly at?: string;
  readonly role?: string;
  readonly requestId?: string | null;
  readonly deletedAt?: string | null;
}

/** Stores a message as the turns do; its id. */
const store = async (chatId: string, content: string, more: Stored = {}): Promise<string> => {
  const id = randomUUID();
  const { caller = callers.ann, at = new Date().toISOString(), role = "user", deletedAt = null } = more;
  const requestId = more.requestId === undefined ? randomUUID() : more.requestId;
  await app.db.query(
    `insert into messages (id, tenant_id, chat_id, request_id, role, content, created_at, deleted_at)
     values ($1, $2, $3, $4, $5, $6, $7, $8)`,
    [id, caller.tenantId, chatId, requestId, role, content, at, deletedAt],
  );
  return id;
};

const find = async (q: string, query: Record<string, string> = {}, caller: Caller = callers.ann) =>
  app.call("GET", `/search?${new URLSearchParams({ q, ...query })}`, { caller });

const foundBy = async (q: string, caller: Caller = callers.ann): Promise<string[]> => {
  const { status, body } = await find(q, { limit: "100" }, caller);
  expect(status, JSON.stringify(body)).toBe(200);
  return body.items.map((hit: { message_id?: string; chat_id: string }) => hit.message_id ?? hit.chat_id);
};

describe("GET /search", () => {
  test("finds both messages of a turn as soon as it ended, with an excerpt and where the word is", async () => {
    const chatId = await app.createChat(callers.ann, { title: "Plans" });
    await app.ask(chatId, "  Where is the\nSimulator?  ");
    const { body } = await find("simulator");
    expect(body).toEqual({
      items: [
        {
          kind: "message",
          chat_id: chatId,
          chat_title: "Plans",
          message_id: expect.any(String),
          role: "assistant",
          created_at: expect.any(String),
          excerpt: "Hello from the simulator.",
          highlights: [{ start: 15, end: 24 }],
        },
        {
          kind: "message",
          chat_id: chatId,
          chat_title: "Plans",
          message_id: expect.any(String),
          role: "user",
          created_at: expect.any(String),
          excerpt: "Where is the Simulator?",
          highlights: [{ start: 13, end: 22 }],
        },
      ],
      page_info: { limit: 20, next_cursor: null, prev_cursor: null },
    });
  });

  test("finds titles, as old as their chat, and follows a rename", async () => {
    const chatId = await app.createChat(callers.ann, { title: "Release notes" });
    const { body } = await find("notes");
    const chat = (await app.call("GET", `/chats/${chatId}`)).body;
    expect(body.items).toEqual([
      {
        kind: "title",
        chat_id: chatId,
        chat_title: "Release notes",
        created_at: chat.created_at,
        excerpt: "Release notes",
        highlights: [{ start: 8, end: 13 }],
      },
    ]);
    await app.call("PATCH", `/chats/${chatId}`, { body: { title: "Minutes" } });
    expect(await foundBy("notes")).toEqual([]);
    expect(await foundBy("minutes")).toEqual([chatId]);
  });

  test.each<[string, string, boolean]>([
    ["a word in other case", "INVOICE", true],
    ["all of several words", "paid invoice", true],
    ["all but one of several words", "paid invoice refused", false],
    ["a part of a word", "invo", false],
    ["the beginning of a word", "invo*", true],
    ["the beginning of the last of several words", "paid invo*", true],
    ["a beginning of two letters, as a word", "no paid tw*", false],
    ["a phrase", '"the invoice"', true],
    ["the words of a phrase in another order", '"invoice the"', false],
    ["the words of a phrase apart", '"the twice"', false],
    ["either of two words", "refused or invoice", true],
    ["a word without another", "invoice -refused", true],
    ["a word without one that is there", "invoice -twice", false],
    ["a word without a beginning that is there", "invoice -twi*", false],
    ["a phrase without one that is not there", '"the invoice" -"invoice the"', true],
    ["a part of a path", "billing.ts", true],
    ["a whole path", "src/billing.ts", true],
    ["parts of a path in another order", "ts/billing", false],
    ["what is between angle brackets", "Receipt", true],
    ["a word in quotation marks of typographers", "overdue", true],
    ["another script", "счёт", true],
    ["a word with an accent", "Zürich", true],
    ["a hyphened word by its part", "twice", true],
    ["a hyphened word", "twice-paid", true],
    ["a word with an apostrophe", "don't", true],
    ["a word beside an emoji", "done", true],
    ["a number", "4711", true],
    ["like patterns", "invoi%", false],
    ["an unclosed phrase", '"the invoice', true],
    ["operators of another notation", "invoice & !twice | (x <-> y):*", false],
    ["quotes inside", "invoice'; drop table messages; --", false],
  ])("%s: %s → %s", async (_name, q, expected) => {
    const chatId = await app.createChat();
    const id = await store(
      chatId,
      "We paid the Invoice no. 4711 (twice-paid!) see src/billing.ts, List<Receipt>, “overdue”–don't. Счёт in Zürich done✅",
    );
    await store(chatId, "Nothing of it.");
    expect(await foundBy(q)).toEqual(expected ? [id] : []);
  });

  test.each(["", " ", "!!! ??? --", "-invoice", "invoice or -paid", "*", '"', '""', "-", "✅", "\u200b"])(
    "a text without a word to find, '%s', finds nothing or is refused as missing",
    async (q) => {
      await store(await app.createChat(), "invoice paid ✅ - *");
      const { status, body } = await find(q);
      if (q === "") expect([status, body.code]).toEqual([400, "invalid_request"]);
      else expect([status, body.items]).toEqual([200, []]);
    },
  );

  test.each<[string, string, number, string]>([
    ["no q", "limit=1", 400, "invalid_request"],
    ["U+0000", "q=a%00b", 400, "invalid_request"],
    ["broken encoding", "q=%zz", 400, "invalid_request"],
    ["half a character", "q=%ED%A0%80", 400, "invalid_request"],
    ["q twice", "q=a&q=b", 400, "invalid_request"],
    ["257 characters", `q=${"x".repeat(257)}`, 400, "invalid_request"],
    ["10 kB", `q=${"x%20".repeat(5_000)}`, 400, "invalid_request"],
    ["limit 0", "q=a&limit=0", 422, "invalid_filter"],
    ["no number", "q=a&limit=x", 400, "invalid_request"],
    ["a cursor that is none", "q=a&cursor=!", 422, "invalid_cursor"],
  ])("refuses %s", async (_name, query, status, code) => {
    const answer = await app.call("GET", `/search?${query}`);
    expect([answer.status, answer.body.code]).toEqual([status, code]);
  });

  test("256 characters of any kind are accepted", async () => {
    for (const one of ["x", "\u{1f600}", "\u{20000}", "-", '"', "(", "'", "\\", ":", "x ", "x -", "x or "]) {
      const { status } = await find(one.repeat(Math.floor(256 / [...one].length)));
      expect(status, one).toBe(200);
    }
  });

  test("shows nobody else's chats: not a colleague's, not another tenant's", async () => {
    const anns = await store(await app.createChat(), "secret of the house");
    const amys = await store(await app.createChat(callers.amy), "secret of the house", {
      caller: callers.amy,
    });
    const bobs = await store(await app.createChat(callers.bob), "secret of the house", {
      caller: callers.bob,
    });
    await app.createChat(callers.amy, { title: "A secret" });
    expect(await foundBy("secret")).toEqual([anns]);
    expect(await foundBy("secret -title", callers.amy)).toHaveLength(2);
    expect(await foundBy("secret", callers.amy)).toContain(amys);
    expect(await foundBy("secret", callers.bob)).toEqual([bobs]);
  });

  test("the owner of a message is its chat's, whatever a writer says, and stays so", async () => {
    const chatId = await app.createChat();
    const id = randomUUID();
    await app.db.query(
      `insert into messages (id, tenant_id, chat_id, request_id, role, content, user_id)
       values ($1, $2, $3, gen_random_uuid(), 'user', 'secret', $4)`,
      [id, callers.ann.tenantId, chatId, callers.amy.userId],
    );
    expect(await foundBy("secret", callers.amy)).toEqual([]);
    expect(await foundBy("secret")).toEqual([id]);
    const moved = app.db.query("update messages set user_id = $2 where id = $1", [id, callers.amy.userId]);
    await expect(moved).rejects.toThrow(/immutable/);
  });

  test("finds what is listed: not deleted messages, not those of no turn, nothing of a deleted chat", async () => {
    const chatId = await app.createChat(callers.ann, { title: "secret" });
    const shown = await store(chatId, "secret");
    await store(chatId, "secret", { deletedAt: new Date().toISOString() });
    await store(chatId, "secret", { requestId: null });
    expect((await foundBy("secret")).toSorted()).toEqual([shown, chatId].toSorted());
    await app.db.query("update messages set deleted_at = now() where id = $1", [shown]);
    expect(await foundBy("secret")).toEqual([chatId]);
    await app.db.query("update messages set deleted_at = null where id = $1", [shown]);
    expect(await foundBy("secret")).toHaveLength(2);
    await app.call("DELETE", `/chats/${chatId}`);
    expect(await foundBy("secret")).toEqual([]);
  });

  test("finds temporary chats as long as they are listed", async () => {
    const chatId = await app.createChat(callers.ann, { is_temporary: true });
    const id = await store(chatId, "secret");
    expect(await foundBy("secret")).toEqual([id]);
    await app.db.query("update chats set deleted_at = now() where id = $1", [chatId]);
    expect(await foundBy("secret")).toEqual([]);
  });

  test("a narrower decision of the policy point hides the other chats", async () => {
    const [shown, hidden] = [await app.createChat(), await app.createChat(ann, { title: "secret" })];
    const id = await store(shown, "secret");
    await store(hidden, "secret");
    const actor = {
      ...ann,
      tenantId: asTenantId(ann.tenantId),
      userId: asUserId(ann.userId),
      subjectType: "user",
      scopes: [],
    } as const;
    const found = async (rules: ScopeRules): Promise<string[]> => {
      const authorizer = { authorize: async () => scopeFor(actor, rules) };
      const { rows } = await searchChats({ db: app.db, authorizer }, actor, { q: "secret" });
      return rows.map((row) => row.id);
    };
    expect(await found("unconstrained")).toHaveLength(3);
    expect(await found([[{ property: "id", values: [shown] }]])).toEqual([id]);
    expect(await found([[{ property: "owner_id", values: [callers.amy.userId] }]])).toEqual([]);
    expect(await found([])).toEqual([]);
  });

  test("a search that takes too long is given up", async () => {
    const blocker = await app.db.connect();
    try {
      await blocker.query("begin");
      await blocker.query("lock table messages in access exclusive mode");
      const { status, body } = await find("secret");
      expect([status, body.code, body.detail]).toEqual([
        503,
        "service_unavailable",
        expect.stringContaining("took too long"),
      ]);
    } finally {
      await blocker.query("rollback");
      blocker.release();
    }
    expect((await find("secret")).status).toBe(200);
  });

  test("stores and finds the beginning of a text with more distinct words than an index entry holds", async () => {
    const chatId = await app.createChat();
    const words = Array.from({ length: 300_000 }, (_, at) => `w${at.toString(36)}`).join(" ");
    const id = await store(chatId, `first ${words}`);
    expect(await foundBy("first w1")).toEqual([id]);
    expect(await foundBy(`w${(299_999).toString(36)}`)).toEqual([]);
    const one = await store(chatId, "y".repeat(2_000_000));
    const emoji = await store(chatId, `last ${"\u{1f600}-\u{20000}/".repeat(200_000)}`);
    expect(await foundBy("last")).toEqual([emoji]);
    expect(await foundBy("yyy*")).not.toContain(one);
  });
});
