import { randomUUID } from "node:crypto";
import { afterAll, beforeAll, beforeEach, describe, expect, it } from "vitest";
import type { Db } from "../../src/db/pool.ts";
import { inTransaction, type Tx } from "../../src/db/tx.ts";
import { recordDepth } from "../../src/outbox/gauges.ts";
import { createHorizon } from "../../src/outbox/horizon.ts";
import type { Verdict } from "../../src/outbox/message.ts";
import type { Outbox } from "../../src/outbox/outbox.ts";
import { queueSettings } from "../../src/outbox/queue.ts";
import { settlementOf } from "../../src/outbox/settle.ts";
import { claim, readHorizon, settle } from "../../src/outbox/store.ts";
import { noLogger } from "../../src/telemetry/log.ts";
import { noMetrics } from "../../src/telemetry/metrics.ts";
import { createTestDatabase } from "../support/database.ts";
import {
  countRows,
  enqueueNumbers,
  freshOutbox,
  numbered,
  numberOf,
  registeredOutbox,
  tenantOf,
  testConfig,
} from "./support.ts";

let database: Awaited<ReturnType<typeof createTestDatabase>>;
let db: Db;
let outbox: Outbox;
const tenant = tenantOf(0);
const undone = new Error("rolled back");
const queues = queueSettings(testConfig);

beforeAll(async () => {
  database = await createTestDatabase();
  db = database.db;
  outbox = await registeredOutbox(db);
});
beforeEach(() => freshOutbox(db));
afterAll(() => database.drop());

/** Claims and acknowledges once, starting where the horizon allows; the numbers that were handed over. */
const wave = async (closed: bigint, park = false): Promise<number[]> => {
  const token = randomUUID();
  const messages = await claim(
    db,
    [{ settings: queues.usage, partitions: 16, batch: 10, worker: "test" }],
    token,
    closed,
  );
  const [first] = messages;
  if (first === undefined) return [];
  const rules = { policy: "park_key", maxAttempts: 5, backoff: () => 60_000 } as const;
  const verdict: Verdict = park ? { kind: "retry", error: "down" } : { kind: "done" };
  const batch = { partitionId: first.partitionId, token, messages };
  const verdicts = messages.map(() => verdict);
  await settle(db, [settlementOf(batch, verdicts, rules)]);
  return messages.map(numberOf);
};

const reading = async () => {
  const read = await readHorizon(db);
  if (read === null) throw new Error("no reading");
  return read;
};

const scanFrom = async (): Promise<bigint> =>
  (
    await db.query<{ scan_from: bigint }>(
      "select scan_from from outbox_partition where queue = 'usage' and no = 0",
    )
  ).rows[0]?.scan_from ?? -1n;

/** A transaction that has enqueued `number` and stays open until told. */
const lateCommit = async (number: number) => {
  const enqueued = Promise.withResolvers<Tx>();
  const release = Promise.withResolvers<void>();
  const ended = inTransaction(db, async (tx) => {
    await outbox.enqueuer.enqueueUsageEvent(tx, numbered(tenant, number));
    enqueued.resolve(tx);
    await release.promise;
  });
  await enqueued.promise;
  return async (): Promise<void> => {
    release.resolve();
    await ended;
  };
};

describe("horizon (outbox-engine.md O4)", () => {
  const at = (lastId: number, ...writers: string[]) => ({ lastId: BigInt(lastId), writers });

  it("is where the ids are when nobody writes", () => {
    const horizon = createHorizon();
    expect(horizon.closed).toBe(0n);
    horizon.learn(at(7), 0);
    expect(horizon.closed).toBe(7n);
  });

  it("moves on once all who wrote at a reading are gone, whoever came since", () => {
    const horizon = createHorizon();
    horizon.learn(at(7, "a", "b"), 0);
    expect(horizon.closed).toBe(0n);
    horizon.learn(at(9, "b", "c"), 1);
    expect(horizon.closed).toBe(0n);
    horizon.learn(at(12, "c", "d"), 2);
    // 7 was read while a and b wrote; 9 may still be c's.
    expect(horizon.closed).toBe(7n);
    horizon.learn(at(13, "e"), 3);
    expect(horizon.closed).toBe(12n);
  });

  it("is forgotten when the ids begin anew", () => {
    const horizon = createHorizon();
    horizon.learn(at(7), 0);
    horizon.learn(at(3), 1);
    expect(horizon.closed).toBe(0n);
    horizon.learn(at(4), 2);
    expect(horizon.closed).toBe(4n);
  });

  it("is read once a second", () => {
    const horizon = createHorizon();
    expect(horizon.due(0)).toBe(true);
    horizon.learn(at(7, "a"), 100);
    expect(horizon.due(1_099)).toBe(false);
    expect(horizon.due(1_100)).toBe(true);
  });
});

describe("claims that start behind the horizon", () => {
  it("skip no message that commits late, although later ones were delivered long ago", async () => {
    const horizon = createHorizon();
    const commit = await lateCommit(1);
    for (let round = 0; round < 4; round += 1) {
      await enqueueNumbers(outbox, db, tenant, [10 + round]);
      horizon.learn(await reading(), round);
      expect(await wave(horizon.closed)).toEqual([10 + round]);
    }
    const before = await scanFrom();
    await commit();
    expect(await wave(horizon.closed)).toEqual([1]);
    // And once it is gone, they start behind it.
    await enqueueNumbers(outbox, db, tenant, [20]);
    horizon.learn(await reading(), 10);
    expect(await wave(horizon.closed)).toEqual([20]);
    expect(await scanFrom()).toBeGreaterThan(before + 4n);
  });

  it("name every writer from its insert to its end, and no reader", async () => {
    expect((await reading()).writers).toEqual([]);
    const commit = await lateCommit(1);
    expect((await reading()).writers).toHaveLength(1);
    await commit();
    expect((await reading()).writers).toEqual([]);
    await inTransaction(db, async (tx) => {
      await tx.query("select from outbox_message");
      expect((await reading()).writers).toEqual([]);
    });
  });

  it("never move past a message that waits", async () => {
    await enqueueNumbers(outbox, db, tenant, [1]);
    const other = tenantOf(0);
    expect(await wave((await reading()).lastId, true)).toEqual([1]);
    await enqueueNumbers(outbox, db, other, [2]);
    expect(await wave((await reading()).lastId)).toEqual([2]);
    await enqueueNumbers(outbox, db, other, [3]);
    expect(await wave((await reading()).lastId)).toEqual([3]);
    await db.query("update outbox_parked set until = now()");
    await db.query("update outbox_partition set not_before = null");
    expect(await wave((await reading()).lastId)).toEqual([1]);
    expect(await countRows(db, "outbox_message")).toBe(0);
  });

  it("step over one batch of deleted messages, though a snapshot keeps all of them", async () => {
    const client = await db.connect();
    await client.query("begin isolation level repeatable read");
    await client.query("select count(*) from outbox_message");
    await enqueueNumbers(
      outbox,
      db,
      tenant,
      Array.from({ length: 50 }, (_, number) => number),
    );
    while ((await countRows(db, "outbox_message")) > 0) await wave((await reading()).lastId);
    const { lastId } = await reading();
    // Ten are a batch: what the last claim handed over is all that lies between.
    expect(lastId - (await scanFrom())).toBeLessThan(10n);
    await client.query("rollback");
    client.release();
  });

  it("skip nothing of many producers that commit in any order, at any moment", async () => {
    const horizon = createHorizon();
    const rounds = 60;
    const stranded = async (): Promise<boolean> => {
      const { rows } = await db.query<{ stranded: boolean }>(`
        select exists (
          select
          from outbox_message m
          join outbox_partition p on p.id = m.partition_id
          where m.id < p.scan_from
        ) as stranded`);
      return rows[0]?.stranded !== false;
    };
    let producing = 6;
    const produce = async (producer: number): Promise<void> => {
      for (let round = 0; round < rounds; round += 1) {
        await inTransaction(db, async (tx) => {
          await outbox.enqueuer.enqueueUsageEvent(tx, numbered(tenant, producer * rounds + round));
          await tx.query("select pg_sleep(random() * random() * 0.02)");
          if (round % 7 === 0) throw undone;
        }).catch((error: unknown) => {
          if (error !== undone) throw error;
        });
      }
      producing -= 1;
    };
    const all = Promise.all(Array.from({ length: producing }, (_, producer) => produce(producer)));
    const seen: number[] = [];
    for (let now = 0; producing > 0 || (await countRows(db, "outbox_message")) > 0; now += 1) {
      horizon.learn(await reading(), now);
      seen.push(...(await wave(horizon.closed)));
      expect(await stranded()).toBe(false);
    }
    await all;
    const committed = Array.from({ length: 6 * rounds }, (_, number) => number).filter(
      (number) => (number % rounds) % 7 !== 0,
    );
    expect(seen.toSorted((a, b) => a - b)).toEqual(committed);
    expect(horizon.closed).toBeGreaterThan(0n);
  });

  it("are put back by the gauges, loudly, when a table was changed by hand", async () => {
    await enqueueNumbers(outbox, db, tenant, [1]);
    await db.query("update outbox_partition set scan_from = 1000000000");
    expect(await wave(0n)).toEqual([]);
    const told: string[] = [];
    const logger = { ...noLogger, critical: (_fields: object, message: string) => told.push(message) };
    const metrics = { ...noMetrics, count: (name: string) => told.push(name) };
    const telemetry = { metrics, logger: { ...logger, child: () => noLogger } };
    await recordDepth(db, telemetry, queues);
    expect(told).toEqual(["outbox_gap_detected", expect.stringContaining("below the bound")]);
    expect(await wave(0n)).toEqual([1]);
    await recordDepth(db, telemetry, queues);
    expect(told).toHaveLength(2);
  });
});
