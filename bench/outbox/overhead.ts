import type { Db } from "../../packages/server/src/db/pool.ts";
import { inTransaction } from "../../packages/server/src/db/tx.ts";
import { digits, rounded } from "../harness/measure.ts";
import { scaled, summarise } from "../support.ts";
import { empty, registered, tenants, usageEvent } from "./queue.ts";

const OVERHEAD = 1_000;

/** What one enqueue adds to a transaction that writes one row: milliseconds and round trips. */
export const enqueueOverhead = async (db: Db): Promise<object> => {
  await db.query("create table bench_account (id int primary key, n int not null)");
  await db.query("insert into bench_account select id, 0 from generate_series(1, 64) id");
  const outbox = await registered(db, "bench");
  const write = { name: "bench_write", text: "update bench_account set n = n + 1 where id = $1" };
  let trips = 0;
  let at = 0;
  db.onRoundTrip = () => {
    trips += 1;
  };
  const variants = {
    without: async () => {
      await inTransaction(db, async (tx) => {
        await tx.query(write, [at % 64]);
      });
    },
    /** The usual way: issued together with the caller's last statement. */
    pipelined: async () => {
      await inTransaction(db, async (tx) => {
        const written = tx.query(write, [at % 64]);
        await Promise.all([
          written,
          outbox.enqueuer.enqueueUsageEvent(tx, usageEvent(tenants[at % 64] ?? "", at)),
        ]);
      });
    },
    /** The worst way: awaited alone. */
    alone: async () => {
      await inTransaction(db, async (tx) => {
        await tx.query(write, [at % 64]);
        await outbox.enqueuer.enqueueUsageEvent(tx, usageEvent(tenants[at % 64] ?? "", at));
      });
    },
  };
  const samples = { without: [] as number[], pipelined: [] as number[], alone: [] as number[] };
  const roundTrips = { without: 0, pipelined: 0, alone: 0 };
  for (at = 0; at < scaled(OVERHEAD) + 50; at += 1) {
    for (const name of ["without", "pipelined", "alone"] as const) {
      trips = 0;
      const begin = performance.now();
      await variants[name]();
      if (at >= 50) samples[name].push(performance.now() - begin);
      roundTrips[name] = trips;
    }
  }
  db.onRoundTrip = undefined;
  const [without, pipelined, alone] = [samples.without, samples.pipelined, samples.alone].map(summarise);
  if (without === undefined || pipelined === undefined || alone === undefined) throw new Error("no samples");
  await empty(db);
  return {
    transaction_ms: { without: rounded(without), pipelined: rounded(pipelined), alone: rounded(alone) },
    added_ms: {
      pipelined: digits(pipelined.median - without.median),
      alone: digits(alone.median - without.median),
    },
    added_round_trips: {
      pipelined: roundTrips.pipelined - roundTrips.without,
      alone: roundTrips.alone - roundTrips.without,
    },
  };
};
