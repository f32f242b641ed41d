import { randomUUID } from "node:crypto";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { TenantId } from "../../src/auth/actor.ts";
import type { Queryable, Statement } from "../../src/db/pool.ts";
import { inTransaction, type Tx } from "../../src/db/tx.ts";
import { uncompressMessages } from "../../src/messages/mutation-store.ts";
import { findPriorContextTokens, findRecentMessages } from "../../src/messages/store.ts";
import {
  compressRange,
  findNewestMessages,
  loadRange,
  markedAtOnce,
} from "../../src/messages/summary-store.ts";
import { findFrontier, findSummary } from "../../src/summaries/store.ts";
import { createTestDatabase, type TestDatabase } from "../support/database.ts";

const size = 20_000;
const behind = 14;

let database: TestDatabase;
let range: Parameters<typeof loadRange>[1];
const tenantId = randomUUID() as TenantId;
const chatId = randomUUID();

/** A long chat whose summary covers all but its end, among short ones. */
beforeAll(async () => {
  database = await createTestDatabase();
  const { db } = database;
  await db.query(
    `insert into chats (id, tenant_id, user_id, model)
     select case no when 0 then $2 else gen_random_uuid() end, $1, gen_random_uuid(), 'm'
     from generate_series(0, 200) as no`,
    [tenantId, chatId],
  );
  await db.query(
    `insert into messages (id, tenant_id, chat_id, request_id, role, content, input_tokens, is_compressed, created_at)
     select gen_random_uuid(), $1, c.id, gen_random_uuid(), case no % 2 when 1 then 'user' else 'assistant' end,
       'm' || no, 1 - no % 2, c.id = $2 and no <= $3 - $4, now() - interval '1 day' + no * interval '1 second'
     from chats c, lateral generate_series(1, case when c.id = $2 then $3::int else 50 end) as no
     where c.tenant_id = $1`,
    [tenantId, chatId, size, behind],
  );
  await db.query(
    `insert into thread_summaries (
       id, tenant_id, chat_id, summary_text, summarized_up_to_created_at, summarized_up_to_message_id
     )
     select gen_random_uuid(), tenant_id, chat_id, 's', created_at, id
     from messages
     where chat_id = $1 and is_compressed
     order by created_at desc
     limit 1`,
    [chatId],
  );
  await db.query("analyze messages, thread_summaries, chats");
  const [upTo] = await findNewestMessages(db, tenantId, chatId, 1);
  if (upTo === undefined) throw new Error("no messages");
  range = { tenantId, chatId, after: await findFrontier(db, tenantId, chatId), upTo };
});
afterAll(() => database.drop());

interface Plan {
  readonly "Node Type": string;
  readonly "Relation Name"?: string;
  readonly "Actual Rows": number;
  readonly "Actual Loops": number;
  readonly "Rows Removed by Filter"?: number;
  readonly Plans?: readonly Plan[];
}

const nodesOf = (plan: Plan): Plan[] => [plan, ...(plan.Plans ?? []).flatMap(nodesOf)];

/** Rows of messages a statement looks at, and how. */
const visited = async (
  work: (db: Queryable) => Promise<unknown>,
): Promise<{ rows: number; nodes: string[] }> => {
  const issued: { statement: Statement; values: unknown[] }[] = [];
  const recorder = {
    query: (statement: Statement, values: unknown[]) => {
      issued.push({ statement, values });
      return new Promise(() => {});
    },
  };
  void work(recorder as unknown as Queryable);
  const [one] = issued;
  if (one === undefined) throw new Error("nothing issued");
  let found: Plan | undefined;
  const rolledBack = new Error("rolled back");
  await inTransaction(database.db, async (tx) => {
    const { rows } = await tx.query<{ "QUERY PLAN": { Plan: Plan }[] }>(
      `explain (analyze, format json) ${one.statement.text}`,
      one.values,
    );
    found = rows[0]?.["QUERY PLAN"][0]?.Plan;
    throw rolledBack;
  }).catch((error: unknown) => {
    if (error !== rolledBack) throw error;
  });
  if (found === undefined) throw new Error("no plan");
  const scans = nodesOf(found).filter(
    (node) => node["Relation Name"] === "messages" && node["Node Type"] !== "ModifyTable",
  );
  return {
    rows: scans.reduce(
      (sum, scan) => sum + scan["Actual Rows"] * scan["Actual Loops"] + (scan["Rows Removed by Filter"] ?? 0),
      0,
    ),
    nodes: scans.map((scan) => scan["Node Type"]),
  };
};

describe("what a turn and a summary read of a chat of any length", () => {
  test.each<[string, number, (db: Queryable) => Promise<unknown>]>([
    ["the recent messages, to the limit", 11, (db) => findRecentMessages(db, tenantId, chatId, 11)],
    [
      "and not beyond the frontier, however few are behind it",
      behind,
      (db) => findRecentMessages(db, tenantId, chatId, 101),
    ],
    ["the size of the last answer", 2, (db) => findPriorContextTokens(db, tenantId, chatId)],
    ["the end of the chat", 6, (db) => findNewestMessages(db, tenantId, chatId, 6)],
    ["a range", behind, (db) => loadRange(db, range, { maxChars: 10, limit: 1_000 })],
    [
      "a range to be marked, found and written",
      2 * behind,
      (db) => compressRange(db as Tx, range, { messages: [], total: 0 }),
    ],
  ])("%s", async (_name, atMost, work) => {
    const { rows, nodes } = await visited(work);
    expect(rows).toBeGreaterThan(0);
    expect(rows).toBeLessThanOrEqual(atMost);
    for (const node of nodes) expect(node).toMatch(/^(?:Index|Bitmap Heap) /);
  });
});

test("a range larger than one statement marks is marked whole, and given back whole", async () => {
  const { db } = database;
  const long = { tenantId, chatId: randomUUID() };
  const size = 2 * markedAtOnce + 500;
  await db.query("insert into chats (id, tenant_id, user_id, model) values ($1, $2, $3, 'm')", [
    long.chatId,
    tenantId,
    randomUUID(),
  ]);
  await db.query(
    `insert into messages (id, tenant_id, chat_id, request_id, role, content, created_at)
     select gen_random_uuid(), $1, $2, gen_random_uuid(), 'user', 'word', now() - interval '1 day' + n * interval '1 second'
     from generate_series(1, $3::int) as n`,
    [tenantId, long.chatId, size],
  );
  const [newest] = await findNewestMessages(db, tenantId, long.chatId, 1);
  if (newest === undefined) throw new Error("no messages");
  const whole = { ...long, after: null, upTo: newest };
  const loaded = await loadRange(db, whole, { maxChars: 0, limit: 10 });
  const marked = async (): Promise<number> =>
    Number(
      (
        await db.query<{ n: bigint }>(
          "select count(*) as n from messages where chat_id = $1 and is_compressed",
          [long.chatId],
        )
      ).rows[0]?.n,
    );
  expect(await inTransaction(db, (tx) => compressRange(tx, whole, loaded))).toBe(true);
  expect(await marked()).toBe(size);
  await inTransaction(db, (tx) => uncompressMessages(tx, tenantId, long.chatId));
  expect(await marked()).toBe(0);
  await db.query("update messages set deleted_at = now() where id = $1", [newest.id]);
  expect(await inTransaction(db, (tx) => compressRange(tx, whole, loaded))).toBe(false);
});

test("another tenant finds nothing by the id of the chat", async () => {
  const { db } = database;
  const stranger = randomUUID() as TenantId;
  expect(await findSummary(db, stranger, chatId)).toBeNull();
  expect(await findFrontier(db, stranger, chatId)).toBeNull();
  expect(await findRecentMessages(db, stranger, chatId, 10)).toEqual([]);
  expect(await findNewestMessages(db, stranger, chatId, 10)).toEqual([]);
  const foreign = { ...range, tenantId: stranger };
  expect(await loadRange(db, foreign, { maxChars: 0, limit: 10 })).toEqual({ messages: [], total: 0 });
});
