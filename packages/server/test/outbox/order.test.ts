import { randomUUID } from "node:crypto";
import fc from "fast-check";
import { afterAll, afterEach, beforeAll, describe, expect, it } from "vitest";
import type { Db } from "../../src/db/pool.ts";
import { inTransaction, type Tx } from "../../src/db/tx.ts";
import type { Message, QueueHandler, Verdict } from "../../src/outbox/message.ts";
import { type OrderPolicy, queueSettings } from "../../src/outbox/queue.ts";
import { claim } from "../../src/outbox/store.ts";
import { createTestDatabase } from "../support/database.ts";
import {
  countRows,
  drained,
  eventually,
  freshOutbox,
  numbered,
  numberOf,
  ownOutboxes,
  recorder,
  serving,
  tenantOf,
  testConfig,
} from "./support.ts";

let database: Awaited<ReturnType<typeof createTestDatabase>>;
let db: Db;
const { outboxOf, stopAll } = ownOutboxes(() => db);

beforeAll(async () => {
  database = await createTestDatabase({ maxConnections: 20 });
  db = database.db;
});
afterEach(stopAll);
afterAll(() => database.drop());

const instances = ["a", "b", "c"] as const;

/** What the model knows of a message; the numbers are readings of one logical clock. */
interface Fate {
  readonly number: number;
  readonly key: string;
  readonly transaction: object;
  readonly enqueuedAt: number;
  /** Null while open, and for ever after a rollback. */
  committedAt: number | null;
  /** Answers to give before the last one. */
  failures: number;
  readonly rejected: boolean;
  readonly startedAt: number[];
  finishedAt: number | null;
}

/** Whether `b` was enqueued knowing of `a` (outbox-engine.md O4). */
const precedes = (a: Fate, b: Fate): boolean =>
  a.transaction === b.transaction
    ? a.enqueuedAt < b.enqueuedAt
    : a.committedAt !== null && a.committedAt < b.enqueuedAt;

const rolledBack = new Error("rolled back");

/** A transaction that stays open until it is told how to end. */
const openTransaction = async () => {
  const opened = Promise.withResolvers<Tx>();
  const ending = Promise.withResolvers<"commit" | "rollback">();
  const ended = inTransaction(db, async (tx) => {
    opened.resolve(tx);
    if ((await ending.promise) === "rollback") throw rolledBack;
  }).catch((error: unknown) => {
    if (error !== rolledBack) throw error;
  });
  const tx = await opened.promise;
  const fates: Fate[] = [];
  return {
    tx,
    fates,
    end: async (how: "commit" | "rollback"): Promise<void> => {
      ending.resolve(how);
      await ended;
    },
  };
};

const slots = 4;
const step = fc.record({
  slot: fc.nat(slots - 1),
  action: fc.oneof(
    {
      weight: 6,
      arbitrary: fc.record({
        kind: fc.constant("enqueue" as const),
        key: fc.nat(3),
        failures: fc.oneof({ weight: 5, arbitrary: fc.constant(0) }, { weight: 1, arbitrary: fc.nat(2) }),
        rejected: fc.oneof({ weight: 9, arbitrary: fc.constant(false) }, fc.boolean()),
      }),
    },
    { weight: 3, arbitrary: fc.record({ kind: fc.constant("commit" as const), flush: fc.boolean() }) },
    { weight: 1, arbitrary: fc.record({ kind: fc.constant("rollback" as const) }) },
  ),
});
type Step = typeof step extends fc.Arbitrary<infer T> ? T : never;

/** Answers as the fates say and notes when; stops where the engine ignores what lies behind. */
const handlerOf = (
  fates: ReadonlyMap<number, Fate>,
  tick: () => number,
  policy: OrderPolicy,
): QueueHandler => {
  const answer = (message: Message): Verdict => {
    const fate = fates.get(numberOf(message));
    if (fate === undefined) throw new Error("a message nobody has enqueued");
    fate.startedAt.push(tick());
    if (fate.failures > 0) {
      fate.failures -= 1;
      return { kind: "retry", error: "down", afterMs: 3 };
    }
    if (fate.finishedAt !== null) throw new Error("delivered twice");
    fate.finishedAt = tick();
    return fate.rejected ? { kind: "reject", reason: "bad" } : { kind: "done" };
  };
  return async (messages) => {
    const failed = new Set<string>();
    return messages.map((message) => {
      const scope = policy === "block" ? "" : message.orderKey;
      if (failed.has(scope)) return undefined;
      const verdict = answer(message);
      if (verdict.kind === "retry") failed.add(scope);
      return verdict;
    });
  };
};

/** Plays the steps one after the other against workers that run all the while; returns every fate. */
const play = async (steps: readonly Step[], policy: OrderPolicy): Promise<Fate[]> => {
  const queues = { override: { usage: { policy } } };
  const workers = await Promise.all(instances.map((instanceId) => outboxOf({ instanceId, queues })));
  const [producer] = workers;
  if (producer === undefined) throw new Error("no worker");
  let clock = 0;
  const tick = (): number => {
    clock += 1;
    return clock;
  };
  const fates = new Map<number, Fate>();
  // Two keys share a partition, as block queues need to be told apart from keys.
  const keys = [0, 0, 1, 2].map(tenantOf);
  const handler = handlerOf(fates, tick, policy);
  await Promise.all(workers.map((worker) => worker.start(serving({ usage: handler }))));
  const open = new Map<number, Awaited<ReturnType<typeof openTransaction>>>();
  const close = async (slot: number, how: "commit" | "rollback"): Promise<void> => {
    const transaction = open.get(slot);
    if (transaction === undefined) return;
    open.delete(slot);
    await transaction.end(how);
    if (how === "commit") for (const fate of transaction.fates) fate.committedAt = tick();
  };
  for (const { slot, action } of steps) {
    if (action.kind === "enqueue") {
      const transaction = open.get(slot) ?? (await openTransaction());
      open.set(slot, transaction);
      const key = keys[action.key] ?? "";
      const fate: Fate = {
        number: fates.size,
        key,
        transaction,
        enqueuedAt: tick(),
        committedAt: null,
        failures: action.failures,
        rejected: action.rejected,
        startedAt: [],
        finishedAt: null,
      };
      fates.set(fate.number, fate);
      transaction.fates.push(fate);
      await producer.enqueuer.enqueueUsageEvent(transaction.tx, numbered(key, fate.number));
    } else {
      await close(slot, action.kind);
      if (action.kind === "commit" && action.flush) producer.flush();
    }
  }
  for (let slot = 0; slot < slots; slot += 1) await close(slot, "commit");
  await drained(db);
  await stopAll();
  return [...fates.values()];
};

const partitionOfKey = (key: string): string => key.slice(-2);

describe("causal order (outbox-engine.md O4, O5)", () => {
  it.each(["park_key", "block"] as const)(
    "%s: holds for all interleavings of transactions, rollbacks, late commits and failures",
    async (policy) => {
      const scopeOf = ({ key }: Fate): string => (policy === "block" ? partitionOfKey(key) : key);
      await fc.assert(
        fc.asyncProperty(fc.array(step, { minLength: 5, maxLength: 60 }), async (steps) => {
          await freshOutbox(db);
          const wanted = new Map(
            steps.flatMap(({ action }) => (action.kind === "enqueue" ? action : [])).map((a, at) => [at, a]),
          );
          const fates = await play(steps, policy);
          const committed = fates.filter(({ committedAt }) => committedAt !== null);
          for (const fate of fates) {
            const runs = fate.committedAt === null ? 0 : (wanted.get(fate.number)?.failures ?? 0) + 1;
            expect(fate.startedAt).toHaveLength(runs);
          }
          expect(await countRows(db, "outbox_dead")).toBe(committed.filter((one) => one.rejected).length);
          for (const after of committed) {
            for (const before of committed) {
              if (before === after || scopeOf(before) !== scopeOf(after) || !precedes(before, after))
                continue;
              expect(before.finishedAt).toBeLessThan(after.startedAt[0] ?? 0);
            }
          }
        }),
        { numRuns: 20, endOnFailure: true },
      );
    },
  );

  it("holds for producers that take a lock before they enqueue, with several workers", async () => {
    await freshOutbox(db);
    await db.query("create table counter (tenant uuid primary key, n int not null)");
    const workers = await Promise.all(instances.map((instanceId) => outboxOf({ instanceId })));
    const [producer] = workers;
    if (producer === undefined) throw new Error("no worker");
    const record = recorder();
    await Promise.all(workers.map((worker) => worker.start(serving({ usage: record.handler }))));
    const tenants = [0, 1, 2].map(tenantOf);
    for (const tenant of tenants) await db.query("insert into counter values ($1, 0)", [tenant]);
    // The lock on the counter orders the transactions, whoever began first.
    const produce = async (tenant: string): Promise<void> => {
      for (let round = 0; round < 20; round += 1) {
        await inTransaction(db, async (tx) => {
          const { rows } = await tx.query<{ n: number }>(
            "update counter set n = n + 1 where tenant = $1 returning n",
            [tenant],
          );
          await producer.enqueuer.enqueueUsageEvent(tx, numbered(tenant, rows[0]?.n ?? 0));
        });
        producer.flush();
      }
    };
    await Promise.all(tenants.flatMap((tenant) => [produce(tenant), produce(tenant), produce(tenant)]));
    await drained(db);
    for (const tenant of tenants) {
      const numbers = record.seen.filter(({ tenantId }) => tenantId === tenant).map(({ number }) => number);
      expect(numbers).toEqual(Array.from({ length: 60 }, (_, at) => at + 1));
    }
  });

  it("holds for a smaller id that is committed in the middle of a claim", async () => {
    await freshOutbox(db);
    const outbox = await outboxOf();
    const { usage } = queueSettings(testConfig);
    const [waiting, key, other] = [tenantOf(0), tenantOf(0), tenantOf(0)];
    const enqueue = (tenant: string, number: number): Promise<void> =>
      inTransaction(db, (tx) => outbox.enqueuer.enqueueUsageEvent(tx, numbered(tenant, number)));
    await db.query(
      `
      insert into outbox_parked (partition_id, order_key, until, attempts)
      select p.id, $1, now() + interval '1 hour', 1
      from outbox_partition p
      where p.queue = 'usage' and p.no = 0`,
      [waiting],
    );
    const late = await openTransaction();
    await outbox.enqueuer.enqueueUsageEvent(late.tx, numbered(key, 1));
    await enqueue(other, 2);
    // The claim stops where it begins to write down whose wait is over: it has chosen its partition and
    // seen the first message.
    const lock = await openTransaction();
    await lock.tx.query("lock table outbox_parked in exclusive mode");
    const claimed = claim(db, [{ settings: usage, partitions: 1, batch: 10, worker: "test" }], randomUUID());
    await eventually(async () => {
      const { rows } = await db.query(
        `select from pg_locks
         where relation = 'outbox_parked'::regclass
           and not granted
           and database = (select oid from pg_database where datname = current_database())`,
      );
      return rows.length > 0;
    });
    await late.end("commit");
    await enqueue(key, 3);
    await lock.end("commit");
    expect((await claimed).map(numberOf)).toEqual([1, 2, 3]);
  });
});
