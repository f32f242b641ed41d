import { randomBytes, randomUUID } from "node:crypto";
import { afterAll, beforeAll, beforeEach, describe, expect, test } from "vitest";
import type { Blocker } from "../../src/chats/purge.ts";
import { purgeChats } from "../../src/chats/purge.ts";
import { scanStart } from "../../src/chats/retention-store.ts";
import type { Db } from "../../src/db/pool.ts";
import { inTransaction } from "../../src/db/tx.ts";
import type { OutboxEnqueuer } from "../../src/outbox/enqueuer.ts";
import { createLogger } from "../../src/telemetry/log.ts";
import { createMetrics, type Metrics } from "../../src/telemetry/metrics.ts";
import { createTestDatabase, type TestDatabase } from "../support/database.ts";
import { type Chat, counted, enqueuing, fillChat, insertChat, kept, never, purgeDepsOf } from "./support.ts";

let database: TestDatabase;
let db: Db;
let outbox: OutboxEnqueuer;
let metrics: Metrics;
beforeAll(async () => {
  database = await createTestDatabase({ maxConnections: 20 });
  db = database.db;
  outbox = await enqueuing(db);
});
beforeEach(async () => {
  await db.query("truncate chats, outbox_message, outbox_dead cascade");
  metrics = createMetrics("t");
});
afterAll(() => database.drop());

const graceDays = 30;
const purge = (more: Partial<Parameters<typeof purgeChats>[1]> = {}) =>
  purgeChats(purgeDepsOf(db, { metrics }), { graceDays, signal: never, ...more });

const enqueueCleanup = (chat: Chat): Promise<void> =>
  inTransaction(db, (tx) =>
    outbox.enqueueChatCleanup(tx, {
      reason: "chat_soft_delete",
      tenant_id: chat.tenantId,
      chat_id: chat.id,
      system_request_id: randomUUID(),
      chat_deleted_at: "2026-01-01T00:00:00.000Z",
    }),
  );

const attachment = async (chat: Chat, cleanup: string | null, deleted = false): Promise<void> => {
  await db.query(
    `insert into attachments (id, tenant_id, chat_id, uploaded_by_user_id, filename, content_type, size_bytes,
       storage_backend, provider_id, status, attachment_kind, cleanup_status, deleted_at)
     values (gen_random_uuid(), $1, $2, $3, 'a', 'text/plain', 1, 'sim', 'sim', 'pending', 'document', $4,
       case when $5 then now() end)`,
    [chat.tenantId, chat.id, chat.userId, cleanup, deleted],
  );
};

const turn = async (chat: Chat, state: "running" | "failed", deleted = false): Promise<void> => {
  await db.query(
    `insert into chat_turns (id, tenant_id, chat_id, request_id, requester_type, state, request_fingerprint,
       last_progress_at, completed_at, deleted_at)
     values (gen_random_uuid(), $1, $2, gen_random_uuid(), 'user', $3::text, $4, now(),
       case when $3::text <> 'running' then now() end, case when $5 then now() end)`,
    [chat.tenantId, chat.id, state, randomBytes(32), deleted],
  );
};

const deadLetter = async (
  chat: Chat,
  more: { status?: string; kind?: string; orderKey?: string; tenantId?: string } = {},
): Promise<void> => {
  const { status = "pending", kind = "chat_cleanup", orderKey = chat.id, tenantId = chat.tenantId } = more;
  await db.query(
    `insert into outbox_dead (queue, partition_id, message_id, tenant_id, order_key, kind, payload, created_at,
       attempts, error, fingerprint, status, deadline, completed_at)
     values ($1::varchar, 1, gen_random_uuid(), $2, $3, $1::varchar, $4, now(), 1, 'x', 'x', $5::varchar,
       case when $5::varchar = 'replaying' then now() - interval '1 hour' end,
       case when $5::varchar in ('resolved', 'discarded') then now() end)`,
    [kind, tenantId, orderKey, JSON.stringify({ chat_id: chat.id }), status],
  );
};

const vectorStore = async (chat: Chat): Promise<void> => {
  await db.query(
    `insert into chat_vector_stores (id, tenant_id, chat_id, provider, provider_id)
     values (gen_random_uuid(), $1, $2, 'sim', 'sim')`,
    [chat.tenantId, chat.id],
  );
};

describe("which chats are purged (data.md §4)", () => {
  test.each<[string, number | undefined, boolean]>([
    ["not deleted", undefined, false],
    ["deleted today", 0, false],
    ["a minute before the grace is over", graceDays - 1 / 1_440, false],
    ["a minute after it is over", graceDays + 1 / 1_440, true],
    ["long ago", 300, true],
  ])("%s", async (_, deletedDaysAgo, expected) => {
    const chat = await insertChat(db, deletedDaysAgo === undefined ? {} : { deletedDaysAgo });
    expect(await purge()).toEqual({ purged: expected ? 1 : 0, blocked: {}, failed: 0 });
    expect(await kept(db, [chat])).toEqual(expected ? [] : [chat]);
    expect(await counted(metrics, "purge_deleted")).toBe(expected ? 1 : 0);
  });

  test.each<[string, (chat: Chat) => Promise<void>, Blocker | null]>([
    ["everything is done with", (chat) => fillChat(db, chat), null],
    ["a turn is running", (chat) => turn(chat, "running"), "running_turn"],
    ["a deleted turn is running", (chat) => turn(chat, "running", true), "running_turn"],
    ["a turn has failed", (chat) => turn(chat, "failed"), null],
    ["a file is to be deleted", (chat) => attachment(chat, "pending"), "cleanup_pending"],
    [
      "a file deleted singly is to be deleted",
      (chat) => attachment(chat, "pending", true),
      "cleanup_pending",
    ],
    ["a file could not be deleted", (chat) => attachment(chat, "failed"), "cleanup_failed"],
    ["a file is deleted", (chat) => attachment(chat, "done"), null],
    ["nothing was ever uploaded of a file", (chat) => attachment(chat, null), null],
    ["its vector store exists", vectorStore, "vector_store"],
    ["its cleanup event is not delivered", enqueueCleanup, "cleanup_event"],
    ["its cleanup event is a dead letter", deadLetter, "dead_letter"],
    ["an operator holds the dead letter", (chat) => deadLetter(chat, { status: "replaying" }), "dead_letter"],
    ["an operator gave it up", (chat) => deadLetter(chat, { status: "discarded" }), null],
    ["an operator dealt with it", (chat) => deadLetter(chat, { status: "resolved" }), null],
    [
      "a dead letter of another queue names it",
      (chat) => deadLetter(chat, { kind: "usage", orderKey: chat.tenantId }),
      "dead_letter",
    ],
    [
      "a dead letter of another tenant names it",
      (chat) => deadLetter(chat, { kind: "usage", orderKey: randomUUID(), tenantId: randomUUID() }),
      null,
    ],
  ])("%s", async (_, arrange, reason) => {
    const chat = await insertChat(db, { deletedDaysAgo: 31 });
    await arrange(chat);
    const expected =
      reason === null
        ? { purged: 1, blocked: {}, failed: 0 }
        : { purged: 0, blocked: { [reason]: 1 }, failed: 0 };
    expect(await purge({ dryRun: true })).toEqual(expected);
    expect(await kept(db, [chat])).toEqual([chat]);
    expect(await counted(metrics, "purge_deleted")).toBe(0);
    expect(await purge()).toEqual(expected);
    expect(await kept(db, [chat])).toEqual(reason === null ? [] : [chat]);
    if (reason !== null) expect(await counted(metrics, "purge_blocked", reason)).toBe(1);
    expect(await counted(metrics, "purge_deleted")).toBe(reason === null ? 1 : 0);
  });

  test("an event in a queue that was renamed is waited for as well", async () => {
    const chat = await insertChat(db, { deletedDaysAgo: 31 });
    await enqueueCleanup(chat);
    await db.query("update outbox_partition set queue = 'old.name' where queue = 'mini-chat.chat_cleanup'");
    try {
      expect(await purge()).toEqual({ purged: 0, blocked: { cleanup_event: 1 }, failed: 0 });
    } finally {
      await db.query("update outbox_partition set queue = 'mini-chat.chat_cleanup' where queue = 'old.name'");
    }
  });

  test("an event of another chat is not its own", async () => {
    const chat = await insertChat(db, { deletedDaysAgo: 31 });
    await enqueueCleanup(await insertChat(db));
    expect(await purge()).toEqual({ purged: 1, blocked: {}, failed: 0 });
    expect(await kept(db, [chat])).toEqual([]);
  });

  test("a chat that several things block is counted once", async () => {
    const chat = await insertChat(db, { deletedDaysAgo: 31 });
    await attachment(chat, "pending");
    await attachment(chat, "failed");
    await vectorStore(chat);
    await deadLetter(chat);
    expect(await purge()).toEqual({ purged: 0, blocked: { dead_letter: 1 }, failed: 0 });
  });
});

/** Tables with a column of this name, whatever migration made them. */
const tablesWith = async (column: string): Promise<string[]> =>
  (
    await db.query<{ name: string }>(
      `select table_name as name from information_schema.columns
       where table_schema = 'public' and column_name = $1 order by 1`,
      [column],
    )
  ).rows.map(({ name }) => name);

const rowsOf = async (table: string, column: string, id: string): Promise<number> =>
  (await db.query(`select from ${table} where ${column} = $1`, [id])).rowCount;

// Their rows are the books, which outlive the chat.
const books = ["audit_events", "usage_events"];

describe("what is left of a purged chat", () => {
  test("no row with its id, or of a turn of it, in any table; other chats are whole", async () => {
    const tenantId = randomUUID();
    const gone = await insertChat(db, { tenantId, deletedDaysAgo: 31 });
    const others = [
      await insertChat(db, { tenantId }),
      await insertChat(db, { tenantId, deletedDaysAgo: 3 }),
      await insertChat(db, { deletedDaysAgo: 3 }),
    ];
    for (const chat of [gone, ...others]) await fillChat(db, chat);
    const tables = (await tablesWith("chat_id")).filter((name) => !books.includes(name));
    const ofTurns = (await tablesWith("turn_id")).filter((name) => !books.includes(name));
    expect([...tables, ...ofTurns]).toEqual(expect.arrayContaining(["messages", "turn_events"]));
    const { rows: turns } = await db.query<{ id: string }>("select id from chat_turns where chat_id = $1", [
      gone.id,
    ]);
    const counts = async (chat: Chat) =>
      Promise.all(tables.map(async (table) => [table, await rowsOf(table, "chat_id", chat.id)] as const));
    // A table nobody fills here would prove nothing; a vector store would block the purge.
    const empty = (await counts(gone)).filter(([, rows]) => rows === 0).map(([table]) => table);
    expect(empty).toEqual(["chat_vector_stores"]);
    const before = await Promise.all(others.map(counts));

    expect(await purge()).toEqual({ purged: 1, blocked: {}, failed: 0 });

    expect((await counts(gone)).filter(([, rows]) => rows > 0)).toEqual([]);
    expect(await rowsOf("chats", "id", gone.id)).toBe(0);
    for (const table of ofTurns) expect(await rowsOf(table, "turn_id", turns[0]?.id ?? "")).toBe(0);
    expect(await Promise.all(others.map(counts))).toEqual(before);
    expect(await kept(db, others)).toEqual(others);
  });

  test("quota, events and dead letters stay (data.md §9.6)", async () => {
    const chat = await insertChat(db, { deletedDaysAgo: 31 });
    const other = await insertChat(db);
    await fillChat(db, chat);
    await enqueueCleanup(other);
    await deadLetter(chat, { status: "discarded" });
    await db.query(
      `insert into quota_usage (tenant_id, user_id, period_type, period_start, bucket, spent_credits_micro)
       values ($1, $2, 'daily', current_date, 'total', 5)`,
      [chat.tenantId, chat.userId],
    );
    await purge();
    expect(await rowsOf("quota_usage", "tenant_id", chat.tenantId)).toBe(1);
    expect(await rowsOf("outbox_dead", "order_key", chat.id)).toBe(1);
    expect((await db.query("select from outbox_message")).rowCount).toBe(1);
  });
});

const many = async (count: number, more: object = {}): Promise<Chat[]> => {
  const chats = [];
  for (let at = 0; at < count; at += 1) {
    chats.push(await insertChat(db, { deletedDaysAgo: 400 - at / 1_000, ...more }));
  }
  return chats;
};

describe("a run", () => {
  test("goes on behind more blocked chats than a batch holds", async () => {
    const blocked = await many(70);
    for (const chat of blocked) await vectorStore(chat);
    const free = await many(60, { deletedDaysAgo: 100 });
    expect(await purge()).toEqual({ purged: 60, blocked: { vector_store: 70 }, failed: 0 });
    expect(await kept(db, [...blocked, ...free])).toEqual(blocked);
  });

  test("that is bounded is continued by the next one, and begins anew after the last chat", async () => {
    const chats = await many(51);
    await db.query("update chats set deleted_at = now() - interval '100 days'");
    for (const chat of chats) await vectorStore(chat);
    const progress = { after: scanStart };
    const stop = new AbortController();
    const first = await purge({ progress, signal: stop.signal, onBatch: () => stop.abort() });
    expect(first).toEqual({ purged: 0, blocked: { vector_store: 50 }, failed: 0 });
    expect(progress.after).not.toEqual(scanStart);
    expect(await purge({ progress })).toEqual({ purged: 0, blocked: { vector_store: 1 }, failed: 0 });
    expect(progress.after).toEqual(scanStart);
    expect(await purge({ progress })).toEqual({ purged: 0, blocked: { vector_store: 51 }, failed: 0 });
  });

  test("stops between chats when its signal fires; none is left in part", async () => {
    const chats = await many(20);
    for (const chat of chats) await fillChat(db, chat);
    const stop = new AbortController();
    let looked = 0;
    const deps = purgeDepsOf(db, {
      hasRunningTurn: async () => {
        looked += 1;
        if (looked === 3) stop.abort();
        return false;
      },
    });
    const progress = { after: scanStart };
    expect(await purgeChats(deps, { graceDays, signal: stop.signal, progress })).toMatchObject({ purged: 3 });
    expect(await kept(db, chats)).toEqual(chats.slice(3));
    // The next run does not forget those it had no time for.
    expect(await purge({ progress })).toMatchObject({ purged: 17 });
  });

  test("goes on behind a chat that fails, and undoes what was done of it", async () => {
    const chats = await many(3);
    for (const chat of chats) await fillChat(db, chat);
    const logs: string[] = [];
    const deps = purgeDepsOf(db, {
      metrics,
      logger: createLogger(
        { level: "info", format: "json" },
        { version: "t", instance_id: "t", role: "t" },
        { write: (line) => void logs.push(line) },
      ),
    });
    // Refused when half of the cascade is done.
    await db.query(
      `create function refuse_delete() returns trigger language plpgsql as $$
       begin
         raise exception 'no luck';
       end
       $$`,
    );
    await db.query(
      `create trigger refused before delete on turn_events for each row
       when (old.tenant_id = '${chats[1]?.tenantId}') execute function refuse_delete()`,
    );
    try {
      expect(await purgeChats(deps, { graceDays, signal: never })).toEqual({
        purged: 2,
        blocked: {},
        failed: 1,
      });
    } finally {
      await db.query("drop function refuse_delete cascade");
    }
    expect(await kept(db, chats)).toEqual([chats[1]]);
    for (const table of ["messages", "chat_turns", "attachments", "message_reactions"]) {
      expect(await rowsOf(table, "chat_id", chats[1]?.id ?? "")).toBeGreaterThan(0);
    }
    expect(logs.filter((line) => line.includes('"chat not purged"'))).toHaveLength(1);
    expect(logs.filter((line) => line.includes('"chat purged"'))).toHaveLength(2);
    expect(await counted(metrics, "purge_deleted")).toBe(2);
  });

  test("has the time for a chat of 20,000 turns", async () => {
    const chat = await insertChat(db, { deletedDaysAgo: 31 });
    const ids = [chat.tenantId, chat.id];
    await db.query(
      `insert into messages (id, tenant_id, chat_id, request_id, role)
       select md5($2::uuid::text || no || role)::uuid, $1, $2, md5($2::uuid::text || no)::uuid, role
       from generate_series(1, 20000) as no, (values ('user'), ('assistant')) as of (role)`,
      ids,
    );
    await db.query(
      `insert into chat_turns (id, tenant_id, chat_id, request_id, requester_type, state, assistant_message_id,
         request_fingerprint, completed_at)
       select md5($2::uuid::text || no)::uuid, $1, $2, md5($2::uuid::text || no)::uuid, 'user', 'completed',
         md5($2::uuid::text || no || 'assistant')::uuid, sha256('x'), now()
       from generate_series(1, 20000) as no`,
      ids,
    );
    await db.query("analyze chat_turns");
    expect(await purge()).toEqual({ purged: 1, blocked: {}, failed: 0 });
  }, 60_000);

  test("two at once purge each chat once (ops.md §8)", async () => {
    const chats = await many(120);
    for (const chat of chats.slice(0, 40)) await fillChat(db, chat);
    const runs = await Promise.all([purge(), purge(), purge()]);
    expect(runs.reduce((sum, { purged }) => sum + purged, 0)).toBe(120);
    expect(await kept(db, chats)).toEqual([]);
    expect(await counted(metrics, "purge_deleted")).toBe(120);
  });
});
