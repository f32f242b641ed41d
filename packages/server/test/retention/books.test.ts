import { randomUUID } from "node:crypto";
import fc from "fast-check";
import { afterAll, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { retentionJobs } from "../../src/app/retention.ts";
import { asTenantId } from "../../src/auth/actor.ts";
import { parseConfig } from "../../src/config/schema.ts";
import { overlay, type Tree } from "../../src/config/tree.ts";
import type { Db } from "../../src/db/pool.ts";
import { deleteExpiredSnapshots } from "../../src/policy/retention.ts";
import { deleteExpiredUsage, keptFrom } from "../../src/quota/retention.ts";
import { noLogger } from "../../src/telemetry/log.ts";
import { noMetrics } from "../../src/telemetry/metrics.ts";
import { insertDead } from "../outbox/dead-support.ts";
import { testConfigTree } from "../support/config.ts";
import { createTestDatabase, type TestDatabase } from "../support/database.ts";
import { type Chat, enqueuing, insertChat, never } from "./support.ts";

let database: TestDatabase;
let db: Db;
beforeAll(async () => {
  database = await createTestDatabase();
  db = database.db;
});
beforeEach(() =>
  db.query("truncate chats, quota_usage, policy_snapshots, app_instances, outbox_dead cascade"),
);
afterAll(() => database.drop());

interface Usage {
  readonly period?: "daily" | "monthly";
  /** SQL. */
  readonly start: string;
  readonly reserved?: number;
}

const usage = async ({ period = "daily", start, reserved = 0 }: Usage): Promise<string> => {
  const { rows } = await db.query<{ id: string }>(
    `insert into quota_usage (tenant_id, user_id, period_type, period_start, bucket, reserved_credits_micro)
     values (gen_random_uuid(), gen_random_uuid(), $1, ${start}, 'total', $2)
     returning id`,
    [period, reserved],
  );
  return rows[0]?.id ?? "";
};

const today = "(now() at time zone 'UTC')::date";
const thisMonth = "date_trunc('month', now() at time zone 'UTC')::date";

describe("quota rows (data.md §4)", () => {
  test.each<[string, Usage, number, boolean]>([
    ["of today", { start: today }, 400, true],
    ["of 400 days ago", { start: `${today} - 400` }, 400, true],
    ["of 401 days ago", { start: `${today} - 401` }, 400, false],
    ["of a month that began 500 days ago", { period: "monthly", start: `${today} - 500` }, 400, false],
    ["of the current month, whatever the days", { period: "monthly", start: thisMonth }, 0, true],
    [
      "of the first of the previous month",
      { period: "monthly", start: `(${thisMonth} - interval '1 month')::date` },
      0,
      true,
    ],
    ["of the day before that", { start: `(${thisMonth} - interval '1 month')::date - 1` }, 0, false],
    ["that hold a reserve", { start: `${today} - 500`, reserved: 1 }, 400, true],
  ])("%s", async (_, row, days, expected) => {
    const id = await usage(row);
    expect(await deleteExpiredUsage(db, days, never)).toBe(expected ? 0 : 1);
    expect((await db.query("select from quota_usage where id = $1", [id])).rowCount).toBe(expected ? 1 : 0);
  });

  test("at every instant the current and the previous month are kept, and any row for its days", async () => {
    const instant = fc.date({
      min: new Date("2023-12-30T00:00:00Z"),
      max: new Date("2030-03-02T00:00:00Z"),
      noInvalidDate: true,
    });
    await fc.assert(
      fc.asyncProperty(instant, fc.integer({ min: 0, max: 500 }), async (now, days) => {
        const { rows } = await db.query<{ from: string }>(
          `select ${keptFrom("$1::timestamptz", "$2")}::text as from`,
          [now.toISOString(), days],
        );
        const previousMonth = new Date(Date.UTC(now.getUTCFullYear(), now.getUTCMonth() - 1, 1));
        const oldest = new Date(Date.UTC(now.getUTCFullYear(), now.getUTCMonth(), now.getUTCDate() - days));
        const expected = oldest < previousMonth ? oldest : previousMonth;
        expect(rows[0]?.from).toBe(expected.toISOString().slice(0, 10));
      }),
      { numRuns: 300 },
    );
  });

  test("more than one batch, by two at once", async () => {
    await db.query(
      `insert into quota_usage (tenant_id, user_id, period_type, period_start, bucket)
       select gen_random_uuid(), gen_random_uuid(), 'daily', current_date - 401 - n % 50, 'total'
       from generate_series(1, 2500) as n`,
    );
    await usage({ start: today });
    const deleted = await Promise.all([
      deleteExpiredUsage(db, 400, never),
      deleteExpiredUsage(db, 400, never),
    ]);
    expect(deleted.reduce((sum, one) => sum + one)).toBe(2_500);
    expect((await db.query("select from quota_usage")).rowCount).toBe(1);
  });

  test("none when the signal has fired", async () => {
    await usage({ start: `${today} - 500` });
    expect(await deleteExpiredUsage(db, 400, AbortSignal.abort())).toBe(0);
  });
});

const snapshot = async (tenantId: string, version: number, daysAgo: number): Promise<void> => {
  await db.query(
    "insert into policy_snapshots values ($1, $2, '{}', now() - make_interval(hours => $3::int * 24))",
    [tenantId, version, daysAgo],
  );
};

test("policy versions go 400 days after they were fetched, the newest of a tenant never", async () => {
  const [one, other] = [randomUUID(), randomUUID()];
  for (const [tenantId, version, daysAgo] of [
    [one, 1, 900],
    [one, 2, 401],
    [one, 3, 399],
    [one, 4, 1],
    [other, 1, 900],
    [other, 2, 800],
  ] as const) {
    await snapshot(tenantId, version, daysAgo);
  }
  expect(await deleteExpiredSnapshots(db, 400, AbortSignal.abort())).toBe(0);
  expect(await deleteExpiredSnapshots(db, 400, never)).toBe(3);
  const { rows } = await db.query<{ tenant_id: string; policy_version: bigint }>(
    "select tenant_id, policy_version from policy_snapshots order by policy_version",
  );
  expect(rows).toEqual([
    { tenant_id: other, policy_version: 2n },
    { tenant_id: one, policy_version: 3n },
    { tenant_id: one, policy_version: 4n },
  ]);
});

test("more policy versions than a batch holds", async () => {
  const tenantId = randomUUID();
  await db.query(
    "insert into policy_snapshots select $1, n, '{}', now() - interval '900 days' from generate_series(1, 450) n",
    [tenantId],
  );
  expect(await deleteExpiredSnapshots(db, 400, never)).toBe(449);
});

/** The log of a turn that ended so long ago; the turn's id. */
const turnLog = async (chat: Chat, endedMinutesAgo: number): Promise<string> => {
  const id = randomUUID();
  const values = [id, chat.id, chat.tenantId, endedMinutesAgo];
  await db.query(
    `insert into chat_turns (id, chat_id, tenant_id, request_id, requester_type, requester_user_id, state,
       request_fingerprint, started_at, updated_at, completed_at)
     select $1, $2, $3, $1, 'user', $1, 'failed', sha256(''), at, at, at
     from (select now() - make_interval(mins => $4) as at) as t`,
    values,
  );
  await db.query(
    `insert into turn_events (turn_id, tenant_id, seq, event, data, created_at)
     values ($1, $2, 0, 'stream_started', '{}', now() - make_interval(mins => $3))`,
    [id, chat.tenantId, endedMinutesAgo],
  );
  return id;
};

const jobs = async (change: Tree = {}) => {
  const tree = testConfigTree({ databaseUrl: database.url, simulatorPort: 1 });
  const config = parseConfig(overlay(tree, change) as object);
  const parts = { config, db, outbox: await enqueuing(db), metrics: noMetrics, logger: noLogger };
  return retentionJobs(parts);
};

describe("the jobs of the leader (ops.md §8)", () => {
  test("have their intervals and locks", async () => {
    expect((await jobs()).map(({ name, lockId, intervalMs }) => [name, lockId, intervalMs / 1_000])).toEqual([
      ["temporary_chat_expiry", 3, 60],
      ["chat_purge", 4, 3_600],
      ["quota_retention", 5, 3_600],
      ["policy_retention", 5, 3_600],
      ["instance_retention", 5, 3_600],
      ["dead_letter_retention", 5, 3_600],
      ["turn_log_retention", 5, 3_600],
    ]);
  });

  test("with a grace of 0 nothing is purged", async () => {
    const names = (await jobs({ retention: { chat_grace_days: 0 } })).map(({ name }) => name);
    expect(names).not.toContain("chat_purge");
    expect(names).toContain("temporary_chat_expiry");
  });

  test("each removes what it is for, by the configured times, and leaves the rest", async () => {
    const change = {
      retention: { chat_grace_days: 7, quota_days: 100, policy_days: 500 },
      outbox: { dead_letter_retention_days: 9 },
      resume: { retention_secs: 1_800 },
    };
    const tenantId = asTenantId(randomUUID());
    const expired = await insertChat(db, { expiredSecsAgo: 1 });
    const [old, recent] = [
      await insertChat(db, { deletedDaysAgo: 8 }),
      await insertChat(db, { deletedDaysAgo: 6 }),
    ];
    const [usageOld, usageRecent] = [
      await usage({ start: `${today} - 101` }),
      await usage({ start: `${today} - 99` }),
    ];
    await snapshot(tenantId, 1, 501);
    await snapshot(tenantId, 2, 499);
    await snapshot(tenantId, 3, 0);
    const [deadOld, deadRecent, deadPending] = await insertDead(db, [
      { status: "resolved", daysAgo: 10 },
      { status: "resolved", daysAgo: 8 },
      { status: "pending", daysAgo: 900 },
    ]);
    const [silent, seen] = [randomUUID(), randomUUID()];
    await db.query(
      `insert into app_instances (id, role, version, last_seen_at)
       values ($1, 'all', 't', now() - interval '25 hours'), ($2, 'all', 't', now() - interval '23 hours')`,
      [silent, seen],
    );
    const [logOld, logRecent] = [await turnLog(recent, 31), await turnLog(recent, 29)];
    for (const job of await jobs(change)) await job.run(never);
    const ids = async (table: string) =>
      (await db.query<{ id: unknown }>(`select id from ${table} order by id`)).rows.map(({ id }) => id);
    const sorted = (...given: (string | undefined)[]) => given.toSorted();
    expect(await ids("chats")).toEqual(sorted(expired.id, recent.id));
    expect(await ids("chats where deleted_at is null")).toEqual([]);
    expect(await ids("quota_usage")).toEqual([usageRecent]);
    expect((await db.query("select from policy_snapshots")).rowCount).toBe(2);
    expect(await ids("outbox_dead")).toEqual([deadRecent, deadPending]);
    expect(await ids("app_instances")).toEqual([seen]);
    expect(await ids("(select turn_id as id from turn_events) as logs")).toEqual([logRecent]);
    expect([old.id, usageOld, deadOld, silent, logOld]).not.toContain(undefined);
  });
});
