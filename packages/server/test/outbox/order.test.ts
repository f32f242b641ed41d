import fc from "fast-check";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { DirectConnection } from "../../src/db/direct.ts";
import type { Db } from "../../src/db/pool.ts";
import { inTransaction } from "../../src/db/tx.ts";
import { createTestDatabase } from "../support/database.ts";
import {
  drained,
  enqueueNumbers,
  eventually,
  numbered,
  recorder,
  registeredOutbox,
  serving,
  signal,
  tenantOf,
} from "./support.ts";

let database: Awaited<ReturnType<typeof createTestDatabase>>;
let db: Db;

beforeAll(async () => {
  database = await createTestDatabase();
  db = database.db;
});
afterAll(() => database.drop());

describe("causal order (outbox-engine.md O4)", () => {
  it("holds for producers that take a lock before they enqueue, with several workers", async () => {
    await db.query("create table counter (tenant uuid primary key, n int not null)");
    const workers = await Promise.all(
      ["a", "b", "c"].map((instanceId) => registeredOutbox(db, { instanceId })),
    );
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
    await Promise.all(workers.map((worker) => worker.stop()));
  });

  it("holds for all histories of failures, and nothing is lost or given up", async () => {
    const history = fc.record({
      failures: fc.array(fc.tuple(fc.nat(2), fc.nat(5), fc.integer({ min: 1, max: 2 })), { maxLength: 4 }),
      policy: fc.constantFrom("block" as const, "park_key" as const),
    });
    await fc.assert(
      fc.asyncProperty(history, async ({ failures, policy }) => {
        const outbox = await registeredOutbox(db, { queues: { override: { usage: { policy } } } });
        const tenants = [tenantOf(0), tenantOf(0), tenantOf(1)];
        const left = new Map(
          failures.map(([tenant, number, times]) => [`${tenants[tenant]} ${number}`, times]),
        );
        const record = recorder(({ tenantId }, { number }) => {
          const times = left.get(`${tenantId} ${number}`) ?? 0;
          left.set(`${tenantId} ${number}`, times - 1);
          return times > 0 ? { kind: "retry", error: "down", afterMs: 5 } : { kind: "done" };
        });
        // A block handler stops at its first failure, as the engine ignores what lies behind.
        await outbox.start(
          serving({
            usage: async (messages, context) => {
              if (policy === "park_key") return record.handler(messages, context);
              const verdicts = [];
              for (const message of messages) {
                const [verdict] = await record.handler([message], context);
                verdicts.push(verdict);
                if (verdict?.kind === "retry") break;
              }
              return verdicts;
            },
          }),
        );
        for (const tenant of tenants) await enqueueNumbers(outbox, db, tenant, [0, 1, 2, 3, 4, 5]);
        await drained(db);
        await outbox.stop();
        for (const tenant of tenants) {
          const numbers = record.seen
            .filter(({ tenantId }) => tenantId === tenant)
            .map(({ number }) => number);
          expect(numbers).toEqual([...numbers].sort((a, b) => a - b));
          expect(new Set(numbers)).toEqual(new Set([0, 1, 2, 3, 4, 5]));
        }
      }),
      { numRuns: 12 },
    );
  });
});

describe("wake-up (outbox.md §7)", () => {
  const slowPoll = { config: { poll_interval_ms: 60_000, notify: true } };

  it("startup delivers what waits without any flush", async () => {
    const outbox = await registeredOutbox(db, slowPoll);
    await inTransaction(db, (tx) => outbox.enqueuer.enqueueUsageEvent(tx, numbered(tenantOf(0), 1)));
    const record = recorder();
    await outbox.start(serving({ usage: record.handler }));
    await record.until((all) => all.length === 1);
    await outbox.stop();
  });

  it("flush wakes the worker of the same process at once", async () => {
    const outbox = await registeredOutbox(db, slowPoll);
    const record = recorder();
    await outbox.start(serving({ usage: record.handler }));
    await enqueueNumbers(outbox, db, tenantOf(0), [1]);
    await record.until((all) => all.length === 1);
    await outbox.stop();
  });

  it("a notification wakes the worker of another process", async () => {
    const directs = [
      new DirectConnection({ url: database.url }),
      new DirectConnection({ url: database.url }),
    ];
    const [near, far] = directs;
    if (near === undefined || far === undefined) throw new Error("no connection");
    await Promise.all(directs.map((direct) => direct.start()));
    const producer = await registeredOutbox(db, { ...slowPoll, instanceId: "producer", direct: near });
    const worker = await registeredOutbox(db, { ...slowPoll, instanceId: "worker", direct: far });
    const record = recorder();
    await worker.start(serving({ usage: record.handler }));
    await enqueueNumbers(producer, db, tenantOf(0), [1]);
    await record.until((all) => all.length === 1);
    await worker.stop();
    await Promise.all(directs.map((direct) => direct.stop()));
  });

  it("a lost wake-up costs one poll", async () => {
    const outbox = await registeredOutbox(db);
    const record = recorder();
    await outbox.start(serving({ usage: record.handler }));
    await inTransaction(db, (tx) => outbox.enqueuer.enqueueUsageEvent(tx, numbered(tenantOf(0), 1)));
    await record.until((all) => all.length === 1);
    await outbox.stop();
  });

  it("an idle worker only polls", async () => {
    let passes = 0;
    const passed = signal();
    const outbox = await registeredOutbox(db, {
      config: { poll_interval_ms: 60_000 },
      onPass: () => {
        passes += 1;
        passed.give();
      },
    });
    await outbox.start(serving({ usage: recorder().handler }));
    await passed.given;
    // A query on the same database takes far longer than a busy loop would need for a second pass.
    for (let round = 0; round < 20; round += 1) await db.query("select pg_sleep(0.002)");
    expect(passes).toBe(1);
    await outbox.stop();
  });

  it("survives a database that comes and goes", async () => {
    const outbox = await registeredOutbox(db);
    const record = recorder();
    await outbox.start(serving({ usage: record.handler }));
    await db.query(`
      select pg_terminate_backend(pid)
      from pg_stat_activity
      where datname = current_database()
        and pid <> pg_backend_pid()`);
    await eventually(() =>
      enqueueNumbers(outbox, db, tenantOf(0), [1]).then(
        () => true,
        () => false,
      ),
    );
    await record.until((all) => all.length > 0);
    await outbox.stop();
  });
});
