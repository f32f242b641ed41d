import { afterEach, describe, expect, test } from "vitest";
import { createAuditTable } from "../../src/audit/table.ts";
import { eventually, startTestApp, type TestApp } from "../support/app.ts";
import { callers } from "../support/config.ts";
import { createTestDatabase, type TestDatabase } from "../support/database.ts";

const closing: (() => Promise<void>)[] = [];
afterEach(async () => {
  for (const close of closing.splice(0).reverse()) await close();
});

const started = async (usage: object, audit: object): Promise<TestApp> => {
  const app = await startTestApp({
    config: { plugins: { usage: { ...usage }, audit: { ...audit } }, outbox: { retry_base_ms: 20 } },
  });
  closing.push(() => app.close());
  return app;
};

/** What the tables say of the caller's tenant, once something is in both. */
const published = async ({ db }: TestDatabase) => {
  let usage: Record<string, unknown>[] = [];
  let audit: Record<string, unknown>[] = [];
  await eventually(async () => {
    const rowsOf = async (table: string) => {
      // Nobody has made it yet in a database of its own.
      const { rows: made } = await db.query("select from pg_tables where tablename = $1", [table]);
      if (made.length === 0) return [];
      const tenant = [callers.ann.tenantId];
      const { rows } = await db.query(`select * from ${table} where tenant_id = $1`, tenant);
      return rows;
    };
    [usage, audit] = [await rowsOf("usage_events"), await rowsOf("audit_events")];
    return usage.length > 0 && audit.length > 0;
  });
  return { usage, audit };
};

test("a receipt of an erasure goes into a table made before there were any", async () => {
  const other = await createTestDatabase({ empty: true });
  closing.push(() => other.drop());
  await other.db.query(
    createAuditTable.replace("turn_id uuid,", "turn_id uuid not null,").split("do $$")[0] ?? "",
  );
  const app = await started({ type: "log" }, { type: "postgres", database_url: other.url });
  const chatId = await app.createChat();
  expect((await app.call("DELETE", `/chats/${chatId}`)).status).toBe(204);
  await eventually(async () => (await other.db.query("select from audit_events")).rowCount > 0);
  const { rows } = await other.db.query("select chat_id, turn_id, user_id, event_type from audit_events");
  expect(rows).toEqual([
    {
      chat_id: chatId,
      turn_id: null,
      user_id: callers.ann.userId,
      event_type: "chat_provider_data_erased",
    },
  ]);
});

describe("events of real turns in tables", () => {
  test("of the server's own database", async () => {
    const app = await started({ type: "postgres" }, { type: "postgres" });
    const chatId = await app.createChat();
    const { requestId } = await app.ask(chatId, "Hello");
    const { usage, audit } = await published(app.database);
    expect(usage).toMatchObject([
      {
        chat_id: chatId,
        user_id: callers.ann.userId,
        terminal_state: "completed",
        event: { request_id: requestId },
      },
    ]);
    expect(usage.map(({ idempotency_key: key }) => key)).toEqual(
      usage.map(({ event }) => (event as { dedupe_key: string }).dedupe_key),
    );
    expect(audit).toMatchObject([
      { chat_id: chatId, event_type: "turn_completed", event: { request_id: requestId } },
    ]);
  });

  test("of another database, where nothing was prepared", async () => {
    const other = await createTestDatabase({ empty: true });
    closing.push(() => other.drop());
    const target = { type: "postgres", database_url: other.url };
    const app = await started(target, target);
    const { requestId } = await app.ask(await app.createChat(), "Hello");
    const { usage, audit } = await published(other);
    expect([...usage, ...audit]).toMatchObject([
      { event: { request_id: requestId } },
      { event: { request_id: requestId } },
    ]);
    expect((await app.db.query("select from usage_events")).rows).toEqual([]);
  });

  test("of another database that is away for a while: turns go on, and nothing is lost", async () => {
    const other = await createTestDatabase({ empty: true });
    closing.push(() => other.drop());
    const target = { type: "postgres", database_url: other.url };
    const app = await started(target, target);
    const name = new URL(other.url).pathname.slice(1);
    await app.db.query(`alter database ${name} with allow_connections false`);
    const chatId = await app.createChat();
    const requests: string[] = [];
    for (const text of ["one", "two"]) requests.push((await app.ask(chatId, text)).requestId);
    // Tried, and waiting.
    await eventually(async () => (await app.db.query("select from outbox_parked")).rows.length >= 2);
    await app.db.query(`alter database ${name} with allow_connections true`);
    await eventually(async () => (await app.db.query("select from outbox_message")).rows.length === 0);
    const { usage, audit } = await published(other);
    for (const rows of [usage, audit]) {
      const ids = rows.map(({ event }) => (event as { request_id: string }).request_id);
      expect(ids.toSorted()).toEqual(requests.toSorted());
    }
    expect((await app.db.query("select from outbox_dead")).rows).toEqual([]);
  });
});
