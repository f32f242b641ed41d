import { randomUUID } from "node:crypto";
import { afterAll, beforeAll, beforeEach, describe, expect, it } from "vitest";
import { type Db, type Queryable, runStatement } from "../../src/db/pool.ts";
import { queueSettings } from "../../src/outbox/queue.ts";
import { settlementOf } from "../../src/outbox/settle.ts";
import { claim, readHorizon, readNextDue, settle } from "../../src/outbox/store.ts";
import { createTestDatabase } from "../support/database.ts";
import { freshOutbox, registeredOutbox, testConfig } from "./support.ts";

let database: Awaited<ReturnType<typeof createTestDatabase>>;
let db: Db;
const { usage } = queueSettings(testConfig);
const backlog = 20_000;

beforeAll(async () => {
  // One connection, so that plans made early are the ones used later.
  database = await createTestDatabase({ maxConnections: 1 });
  db = database.db;
  await registeredOutbox(db);
});
beforeEach(() => freshOutbox(db));
afterAll(() => database.drop());

/** A backlog in every partition of the usage queue, of two keys each. */
const fill = (count = backlog): Promise<unknown> =>
  db.query(
    `
    insert into outbox_message (partition_id, tenant_id, order_key, kind, payload)
    select p.id, k.key, k.key, 'usage', repeat('x', 300)
    from generate_series(1, $1::int) as n
    join outbox_partition p on p.queue = 'usage' and p.no = n % 4
    cross join lateral (select md5(p.id::text || n / 4 % 2)::uuid as key) k`,
    [count],
  );

const analyze = (): Promise<unknown> => db.query("analyze outbox_message, outbox_partition, outbox_parked");

interface Touched {
  readonly scans: number;
  readonly rows: number;
}

/** Scans of all messages, and rows read of messages and waiting keys, by this session so far. */
const touched = async (session: Queryable): Promise<Touched> => {
  const { rows } = await session.query<{ scans: number; rows: number }>(`
    select
      sum(seq_scan) filter (where relname = 'outbox_message')::int as "scans",
      sum(seq_tup_read + coalesce(idx_tup_fetch, 0))::int as "rows"
    from pg_stat_xact_user_tables
    where relname in ('outbox_message', 'outbox_parked')`);
  return rows[0] ?? { scans: 0, rows: 0 };
};

/** What a claim of all partitions, its acknowledgement and the look for the next due time touch. */
const wave = async (closed = 0n): Promise<Touched & { readonly messages: number }> => {
  const client = await db.connect();
  const session: Queryable = { query: (statement, values = []) => runStatement(client, statement, values) };
  try {
    const token = randomUUID();
    await session.query("begin");
    const before = await touched(session);
    const messages = await claim(
      session,
      [{ settings: usage, partitions: 16, batch: 10, worker: "test" }],
      token,
      closed,
    );
    const partitions = Map.groupBy(messages, ({ partitionId }) => partitionId);
    const settlements = [...partitions].map(([partitionId, batch]) =>
      settlementOf(
        { partitionId, token, messages: batch },
        batch.map((_, at) => (at === 9 ? { kind: "reject", reason: "bad" } : { kind: "done" })),
        { policy: "park_key", maxAttempts: 5, backoff: () => 1_000 },
      ),
    );
    await settle(session, settlements);
    await readNextDue(session, [usage.name]);
    const after = await touched(session);
    await session.query("commit");
    return { scans: after.scans - before.scans, rows: after.rows - before.rows, messages: messages.length };
  } finally {
    client.release();
  }
};

describe("plans of claim and acknowledgement (outbox-engine.md, Claim)", () => {
  it.each([
    [
      "that were empty when they were analyzed",
      async () => {
        await analyze();
        await fill();
      },
    ],
    [
      "that were nearly empty when the plans were made",
      async () => {
        await fill(8);
        await analyze();
        await wave();
        await fill();
      },
    ],
    [
      "that were full when they were analyzed",
      async () => {
        await fill();
        await analyze();
      },
    ],
    [
      "that were full when they were analyzed and are nearly empty",
      async () => {
        await fill();
        await analyze();
        await db.query("delete from outbox_message where id % 101 <> 0");
      },
    ],
  ])("read no table as a whole, on tables %s", async (_name, prepare) => {
    await prepare();
    const { scans, rows, messages } = await wave();
    expect(messages).toBe(40);
    expect(scans).toBe(0);
    // Heads looked at, read, deleted: a few rows per message, whatever waits behind.
    expect(rows).toBeLessThan(messages * 6);
  });

  it("read around waiting keys, of which there were few when the plans were made", async () => {
    const park = (others: number): Promise<unknown> =>
      db.query(
        `
        insert into outbox_parked (partition_id, order_key, until, attempts)
        select p.id, k.key, k.until, 1
        from outbox_partition p
        cross join lateral (
          select md5(p.id::text || 0)::uuid as key, now() as until
          union all
          select gen_random_uuid(), now() + interval '1 hour' from generate_series(1, $1::int)
        ) k
        where p.queue = 'usage'
        on conflict (partition_id, order_key) do update set until = excluded.until`,
        [others],
      );
    await fill(8);
    await park(0);
    await analyze();
    await wave();
    await fill();
    await park(1_000);
    const { scans, rows, messages } = await wave();
    expect(messages).toBe(40);
    expect(scans).toBe(0);
    // As above, and the 1,001 waiting keys of each partition once.
    expect(rows).toBeLessThan(4 * 1_001 + messages * 6);
  });

  it("step over the messages of waiting keys once, not at every look", async () => {
    await fill();
    await db.query(`
      insert into outbox_parked (partition_id, order_key, until, attempts)
      select p.id, md5(p.id::text || n)::uuid, now() + interval '1 hour', 1
      from outbox_partition p
      cross join generate_series(0, 1) as n
      where p.queue = 'usage'`);
    const lastId = (await readHorizon(db))?.lastId ?? 0n;
    expect(await wave(lastId)).toMatchObject({ messages: 0 });
    await db.query("update outbox_partition set not_before = null");
    const { scans, rows, messages } = await wave(lastId);
    expect(messages).toBe(0);
    expect(scans).toBe(0);
    expect(rows).toBeLessThan(100);
    // The keys go on from their first message, and what comes after the bound is read with them.
    await db.query("update outbox_partition set not_before = null");
    await db.query(
      "update outbox_parked set until = now() where order_key = md5(partition_id::text || 0)::uuid",
    );
    await fill(8);
    expect((await wave(lastId)).messages).toBe(4);
    expect((await wave(lastId)).messages).toBe(40);
  });
});
