import { setTimeout as sleep } from "node:timers/promises";
import type { Db } from "../packages/server/src/db/pool.ts";
import { cpuMs, familyCpuMs, watchMachine } from "./harness/measure.ts";
import { withDatabase } from "./harness/stack.ts";
import { fillFast } from "./outbox/fill.ts";
import { ledgerOf, recorded, startWorker } from "./outbox/processes.ts";
import { empty, openDb, partitions, registered } from "./outbox/queue.ts";
import { scaled } from "./support.ts";

const MESSAGES = 1_000_000;

const anyWaits = async (db: Db): Promise<boolean> =>
  (await db.query<{ any: boolean }>("select exists (select from outbox_message) as any")).rows[0]?.any ===
  true;

/** A million messages and `count` processes that compete for them. */
const compete = async (url: string, dir: string, db: Db, count: number): Promise<object> => {
  const perTenant = scaled(Math.ceil(MESSAGES / partitions));
  await fillFast(
    db,
    Array.from({ length: partitions }, (_, partition) => ({ kind: "usage", partition, count: perTenant })),
  );
  await db.query("vacuum analyze outbox_message");
  const workers = await Promise.all(
    Array.from({ length: count }, (_, at) =>
      startWorker({ url, dir, name: `of-${count}-${at}`, mode: "record" }),
    ),
  );
  const begin = performance.now();
  await Promise.all(workers.map((worker) => worker.begin()));
  while (await anyWaits(db)) await sleep(20);
  const seconds = (performance.now() - begin) / 1_000;
  const cpu = workers.map(({ pid }) => cpuMs(pid));
  await Promise.all(workers.map((worker) => worker.stop()));
  const runs = recorded(workers);
  const ledger = ledgerOf(runs, partitions, perTenant);
  ledger.verify();
  const shares = workers.map((_, at) =>
    runs.reduce((sum, { worker, first, last }) => sum + (worker === at ? last - first + 1 : 0), 0),
  );
  await empty(db);
  return {
    messages: ledger.taken,
    drained_per_second: Math.round(ledger.taken / seconds),
    delivered_by_each: shares,
    cpu_seconds_of_each: cpu.map((ms) => ms / 1_000),
    lost: partitions * perTenant - ledger.taken,
    duplicates: ledger.duplicates,
    order_violations: ledger.orderViolations,
  };
};

/**
 * One, two and four processes that compete for a million messages in 64 partitions. Fails when a message
 * is missing, comes twice or comes out of order, in whichever process.
 */
export const run = (): Promise<object> =>
  withDatabase(async (server, dir) => {
    const db = openDb(server.url, 2);
    try {
      await registered(db, "bench");
      const machine = watchMachine(() => cpuMs(process.pid) + familyCpuMs(server.pid));
      const results: Record<string, object> = {};
      for (const count of [1, 2, 4]) {
        results[`processes_${count}`] = await compete(server.url, dir, db, count);
      }
      return { ...results, machine: machine() };
    } finally {
      await db.close();
    }
  });
