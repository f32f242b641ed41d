import { randomUUID } from "node:crypto";
import { afterAll, beforeAll, beforeEach, describe, expect, it } from "vitest";
import { createAuditTable, insertAuditEvents } from "../../src/audit/table.ts";
import { Db } from "../../src/db/pool.ts";
import type { Delivery } from "../../src/outbox/sink.ts";
import { createTableSink } from "../../src/outbox/table-sink.ts";
import { turnUsageEvent } from "../../src/usage/event.ts";
import { createUsageTable, insertUsageEvents } from "../../src/usage/table.ts";
import { createTestDatabase } from "../support/database.ts";
import { completedTurn } from "../usage/samples.ts";

let database: Awaited<ReturnType<typeof createTestDatabase>>;
let db: Db;
beforeAll(async () => {
  database = await createTestDatabase();
  db = database.db;
});
beforeEach(() => db.query("truncate usage_events, audit_events"));
afterAll(() => database.drop());

const never = new AbortController().signal;
const event = turnUsageEvent(completedTurn);
const delivery = (key: string, change: Partial<Delivery> = {}): Delivery => ({
  queue: "usage",
  idempotencyKey: key,
  messageId: randomUUID(),
  tenantId: event.tenant_id,
  payload: JSON.stringify(event),
  trace: null,
  ...change,
});

const auditPayload = {
  type: "delete",
  event_type: "turn_delete",
  timestamp: "2026-03-01T10:15:31.000Z",
  tenant_id: event.tenant_id,
  requester_type: "user",
  actor_user_id: "22222222-2222-4222-8222-222222222222",
  chat_id: event.chat_id,
  turn_id: event.turn_id,
  request_id: event.request_id,
};

describe("table sink", () => {
  it("writes what one asks for in columns, and the whole event", async () => {
    const sink = createTableSink({ db, insert: insertUsageEvents });
    await sink.publish([delivery("a"), delivery("b")], never);
    const { rows } = await db.query("select * from usage_events order by idempotency_key");
    expect(rows).toMatchObject([
      {
        idempotency_key: "a",
        tenant_id: completedTurn.tenantId,
        user_id: completedTurn.userId,
        chat_id: completedTurn.chatId,
        turn_id: completedTurn.turnId,
        effective_model: "gpt-standard",
        terminal_state: "completed",
        billing_outcome: "completed",
        actual_credits_micro: 126_510n,
        event: JSON.parse(JSON.stringify(event)),
      },
      { idempotency_key: "b" },
    ]);
  });

  it("keeps an event that comes again as it is, also twice in one batch and at the same time", async () => {
    const sink = createTableSink({ db, insert: insertUsageEvents });
    await sink.publish([delivery("a"), delivery("a")], never);
    const { rows: before } = await db.query("select message_id, recorded_at from usage_events");
    await Promise.all([1, 2, 3].map(() => sink.publish([delivery("a"), delivery("b")], never)));
    const { rows: after } = await db.query(
      "select message_id, recorded_at from usage_events order by idempotency_key",
    );
    expect(after).toHaveLength(2);
    expect(after[0]).toEqual(before[0]);
  });

  it("writes audit events with their actor", async () => {
    const sink = createTableSink({ db, insert: insertAuditEvents });
    await sink.publish([delivery("a", { queue: "audit", payload: JSON.stringify(auditPayload) })], never);
    const { rows } = await db.query("select event_type, user_id, turn_id from audit_events");
    expect(rows).toEqual([
      { event_type: "turn_delete", user_id: auditPayload.actor_user_id, turn_id: event.turn_id },
    ]);
  });

  it.each([
    ["U+0000", "a\0b\\u0000c", "a\ufffdb\\u0000c"],
    ["half a character", "a\ud83db", "a\ufffdb"],
    ["its other half", "a\ude00b\\ud83d", "a\ufffdb\\ud83d"],
    ["a whole one", "a\u{1f600}b", "a\u{1f600}b"],
  ])("takes a text with %s in it, though the database cannot hold them all", async (_name, text, stored) => {
    const sink = createTableSink({ db, insert: insertAuditEvents });
    const payload = JSON.stringify({ ...auditPayload, prompt: text });
    await sink.publish([delivery("a", { queue: "audit", payload })], never);
    const { rows } = await db.query("select event ->> 'prompt' as text from audit_events");
    expect(rows).toEqual([{ text: stored }]);
  });

  it("is permanent about an event the table cannot take, transient about a database that is away", async () => {
    const sink = createTableSink({ db, insert: insertUsageEvents });
    const payload = JSON.stringify({ ...event, chat_id: "not a uuid" });
    await expect(sink.publish([delivery("a", { payload })], never)).rejects.toMatchObject({
      kind: "permanent",
    });
    await db.query("alter table usage_events rename to usage_events_away");
    await expect(sink.publish([delivery("a")], never)).rejects.toMatchObject({ kind: "transient" });
    await db.query("alter table usage_events_away rename to usage_events");
    await sink.publish([delivery("a")], never);
    expect((await db.query("select from usage_events")).rows).toHaveLength(1);
  });
});

describe("a table sink in a database of its own", () => {
  const columns = (table: string): Promise<{ rows: unknown[] }> =>
    db.query(
      `
      select column_name, data_type, is_nullable, column_default
      from information_schema.columns
      where table_name = $1
      order by ordinal_position`,
      [table],
    );

  it.each([
    ["usage_events", createUsageTable, insertUsageEvents, JSON.stringify(event)],
    ["audit_events", createAuditTable, insertAuditEvents, JSON.stringify(auditPayload)],
  ])(
    "makes %s as the migration does, and starts again on what is there",
    async (table, create, insert, payload) => {
      const migrated = (await columns(table)).rows;
      await db.query(`drop table ${table}`);
      await createTableSink({ db, insert, create }).publish([delivery("a", { payload })], never);
      await createTableSink({ db, insert, create }).publish([delivery("b", { payload })], never);
      expect((await columns(table)).rows).toEqual(migrated);
      expect((await db.query(`select from ${table}`)).rows).toHaveLength(2);
    },
  );

  it("is made once by processes that start together, and no event is given up over it", async () => {
    await db.query("drop table usage_events");
    const starts = Array.from({ length: 8 }, (_, at) =>
      createTableSink({ db, insert: insertUsageEvents, create: createUsageTable }).publish(
        [delivery(`key-${at}`)],
        never,
      ),
    );
    await Promise.all(starts);
    expect((await db.query("select from usage_events")).rows).toHaveLength(8);
  });

  it.each([
    ["usage_events", createUsageTable, insertUsageEvents, JSON.stringify(event)],
    ["audit_events", createAuditTable, insertAuditEvents, JSON.stringify(auditPayload)],
  ])("takes a role that may only insert into %s", async (table, create, insert, payload) => {
    const role = `only_insert_${randomUUID().replaceAll("-", "")}`;
    await db.query(`create role ${role} login password 'x'`);
    try {
      await db.query(`grant select, insert on ${table} to ${role}`);
      const url = Object.assign(new URL(database.url), { username: role, password: "x" });
      const limited = new Db({
        url: url.href,
        maxConnections: 1,
        acquireTimeoutMs: 30_000,
        statementTimeoutMs: 15_000,
        lockTimeoutMs: 5_000,
        idleInTransactionTimeoutMs: 30_000,
      });
      const sink = createTableSink({ db: limited, insert, create, close: () => limited.close() });
      await sink.publish([delivery("only-insert", { payload })], never);
      await sink.close();
      expect(
        (await db.query(`select from ${table} where idempotency_key = 'only-insert'`)).rows,
      ).toHaveLength(1);
    } finally {
      await db.query(`drop owned by ${role}`);
      await db.query(`drop role ${role}`);
    }
  });

  it("is transient about a table that cannot be made, whatever the reason", async () => {
    const create = "insert into usage_events (idempotency_key) values (null)";
    const sink = createTableSink({ db, insert: insertUsageEvents, create });
    await expect(sink.publish([delivery("a")], never)).rejects.toMatchObject({
      kind: "transient",
      message: "the table is not there and cannot be made (23502)",
    });
  });
});
