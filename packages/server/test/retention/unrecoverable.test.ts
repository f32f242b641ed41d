import { randomUUID } from "node:crypto";
import { afterAll, beforeAll, expect, test } from "vitest";
import { purgeChats } from "../../src/chats/purge.ts";
import { startTestApp, type TestApp } from "../support/app.ts";
import { callers } from "../support/config.ts";
import { attach } from "../turns/support.ts";
import { never, purgeDepsOf } from "./support.ts";

let app: TestApp;
beforeAll(async () => {
  // Nobody delivers, so that the test decides when the cleanup event is handled.
  app = await startTestApp({ config: { role: "api" } });
});
afterAll(() => app.close());

const purge = () => purgeChats(purgeDepsOf(app.db), { graceDays: 30, signal: never });

/** Whatever tables there are: those in which a row says this. */
const tablesThatSay = async (word: string): Promise<string[]> => {
  const { rows } = await app.db.query<{ name: string }>(
    `select table_name as name from information_schema.tables
     where table_schema = 'public' and table_type = 'BASE TABLE' order by 1`,
  );
  const found: string[] = [];
  for (const { name } of rows) {
    const { rowCount } = await app.db.query(
      `select from ${name} t where strpos(t::text, $1) > 0 or strpos(to_jsonb(t)::text, $1) > 0 limit 1`,
      [word],
    );
    if (rowCount > 0) found.push(name);
  }
  return found;
};

const settings = { title: "about quokkas" };
const word = "quokka";

/** A chat with all a user can put into one. */
const fill = async (caller: (typeof callers)[keyof typeof callers]): Promise<string> => {
  const id = await app.createChat(caller, settings);
  const { requestId } = await app.ask(id, `the ${word} question`, caller);
  const { body } = await app.call("GET", `/chats/${id}/messages`, { caller });
  const answer = body.items[1]?.id;
  await app.call("PUT", `/chats/${id}/messages/${answer}/reaction`, { caller, body: { reaction: "like" } });
  const retried = await app.call("POST", `/chats/${id}/turns/${requestId}/retry`, { caller });
  expect(retried.status).toBe(200);
  const file = await attach(app, id, { kind: "document", owner: caller });
  await app.db.query("update attachments set filename = $2::text, doc_summary = $2::text where id = $1", [
    file,
    `${word}.txt`,
  ]);
  await app.db.query(
    `insert into thread_summaries (id, tenant_id, chat_id, summary_text, summarized_up_to_created_at,
       summarized_up_to_message_id)
     values ($1, $2, $3, $4, now(), $1)`,
    [randomUUID(), caller.tenantId, id, `all about the ${word}`],
  );
  return id;
};

test("a purged chat cannot be brought back from any table, nor seen, and its neighbours can", async () => {
  const { ann, amy, bob } = callers;
  const gone = await fill(ann);
  const { rows: turns } = await app.db.query<{ id: string; request_id: string }>(
    "select id, request_id from chat_turns where chat_id = $1",
    [gone],
  );
  expect(await tablesThatSay(word)).toEqual(["attachments", "chats", "messages", "thread_summaries"]);
  const [ours, theirs] = [
    await app.createChat(amy, { title: "of Amy" }),
    await app.createChat(bob, { title: "of Bob" }),
  ];
  await app.ask(ours, "PING", amy);
  await app.ask(theirs, "PING", bob);

  expect((await app.call("DELETE", `/chats/${gone}`, { caller: ann })).status).toBe(204);
  expect(await purge()).toEqual({ purged: 0, blocked: {}, failed: 0 });
  await app.db.query("update chats set deleted_at = now() - interval '31 days' where id = $1", [gone]);

  // In the order in which it goes: the event is delivered, its files are deleted.
  expect(await purge()).toEqual({ purged: 0, blocked: { cleanup_event: 1 }, failed: 0 });
  await app.db.query("delete from outbox_message where kind = 'chat_cleanup'");
  expect(await purge()).toEqual({ purged: 0, blocked: { cleanup_pending: 1 }, failed: 0 });
  expect(await tablesThatSay(word)).toEqual(["attachments", "chats", "messages", "thread_summaries"]);
  await app.db.query("update attachments set cleanup_status = 'done' where chat_id = $1", [gone]);
  const before = await tablesThatSay(gone);
  expect(before).toContain("chat_turns");
  expect(await purge()).toEqual({ purged: 1, blocked: {}, failed: 0 });

  expect(await tablesThatSay(word)).toEqual([]);
  // What is left are the events of what it cost, which hold no text (data.md §9.6).
  expect(await tablesThatSay(gone)).toEqual(["outbox_message"]);
  for (const { id } of turns) expect(await tablesThatSay(id)).toEqual(["outbox_message"]);
  expect(turns).toHaveLength(2);

  for (const path of ["", "/messages", "/export", `/turns/${turns[0]?.request_id}`]) {
    const { status, body } = await app.call("GET", `/chats/${gone}${path}`, { caller: ann });
    expect([status, body.code]).toEqual([404, "chat_not_found"]);
  }
  expect((await app.call("GET", `/search?q=${word}`, { caller: ann })).body.items).toEqual([]);
  expect((await app.call("DELETE", `/chats/${gone}`, { caller: ann })).status).toBe(404);
  for (const [id, caller] of [
    [ours, amy],
    [theirs, bob],
  ] as const) {
    const { body } = await app.call("GET", `/chats/${id}/messages`, { caller });
    expect(body.items).toHaveLength(2);
  }
});
