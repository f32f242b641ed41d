import { afterAll, beforeAll, expect, test } from "vitest";
import { expireTemporaryChats } from "../../src/chats/expire.ts";
import { purgeChats } from "../../src/chats/purge.ts";
import { scanStart } from "../../src/chats/retention-store.ts";
import type { Db } from "../../src/db/pool.ts";
import { deleteExpiredUsage } from "../../src/quota/retention.ts";
import { noLogger } from "../../src/telemetry/log.ts";
import { createTestDatabase, type TestDatabase } from "../support/database.ts";
import { enqueuing, never, purgeDepsOf } from "./support.ts";

let database: TestDatabase;
beforeAll(async () => {
  database = await createTestDatabase();
  await enqueuing(database.db);
  const { db } = database;
  await db.query(
    `insert into chats (id, tenant_id, user_id, model, is_temporary, expires_at, deleted_at)
     select gen_random_uuid(), gen_random_uuid(), gen_random_uuid(), 'm', n % 10 = 0,
       case when n % 10 = 0 then now() + (n - 100) * interval '1 minute' end,
       case when n % 10 = 1 then now() - n * interval '1 minute' end
     from generate_series(1, 60000) as n`,
  );
  await db.query(
    `insert into quota_usage (tenant_id, user_id, period_type, period_start, bucket)
     select gen_random_uuid(), gen_random_uuid(), 'daily', current_date - n % 402, 'total'
     from generate_series(1, 60000) as n`,
  );
  await db.query(
    `insert into outbox_message (partition_id, tenant_id, order_key, kind, payload)
     select (select min(id) from outbox_partition where queue = 'mini-chat.usage_snapshot'), gen_random_uuid(),
       gen_random_uuid(), 'usage', '{}'
     from generate_series(1, 60000)`,
  );
  await db.query("vacuum analyze chats");
  await db.query("vacuum analyze quota_usage");
  await db.query("vacuum analyze outbox_message");
});
afterAll(() => database.drop());

/** The plans of the statements a piece of work issues, by name, explained where they run. */
const plansOf = async (work: (db: Db) => Promise<unknown>): Promise<Map<string, string>> => {
  const plans = new Map<string, string>();
  const explaining: Promise<void>[] = [];
  const { db } = database;
  const watched = Object.assign(Object.create(db) as Db, {
    // Both are sent at once, so that settings of the transaction stand before either.
    run: (...[client, statement, values]: Parameters<Db["run"]>) => {
      const running = db.run(client, statement, values);
      if (typeof statement !== "string" && /^\s*(select|with)/.test(statement.text)) {
        const explained = db.run<{ "QUERY PLAN": string }>(client, `explain ${statement.text}`, values);
        explaining.push(
          explained.then(({ rows }) => {
            plans.set(statement.name, rows.map((row) => row["QUERY PLAN"]).join("\n"));
          }),
        );
      }
      return running;
    },
  });
  await work(watched);
  await Promise.all(explaining);
  return plans;
};

test("no scan reads more than what is due, and no other queue (data.md §9.7)", async () => {
  const outbox = await enqueuing(database.db);
  const plans = await plansOf(async (db) => {
    const stop = new AbortController();
    await expireTemporaryChats(
      {
        db,
        outbox,
        logger: noLogger,
        markAttachments: async () => stop.abort(),
        hasRunningTurn: async () => false,
      },
      stop.signal,
    );
    await purgeChats(purgeDepsOf(db), {
      graceDays: 30,
      signal: never,
      dryRun: true,
      progress: { after: scanStart },
    });
    await deleteExpiredUsage(db, 400, never);
  });
  expect(plans.get("chat_scan_expired")).toContain("using chats_expiry_idx");
  expect(plans.get("chat_scan_deleted")).toContain("using chats_deleted_idx");
  expect(plans.get("quota_scan_expired")).toContain("quota_usage_period_idx");
  expect(plans.get("outbox_chat_holds")).toContain("outbox_message_pkey");
  for (const plan of plans.values()) {
    expect(plan).not.toMatch(/Seq Scan on (chats|quota_usage|outbox_message)/);
  }
});
