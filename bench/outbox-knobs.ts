import { setTimeout as sleep } from "node:timers/promises";
import type { Db } from "../packages/server/src/db/pool.ts";
import { done } from "../packages/server/src/outbox/message.ts";
import type { OutboxConfig } from "../packages/server/src/outbox/outbox.ts";
import { cpuMs, digits, familyCpuMs, rounded, watchMachine } from "./harness/measure.ts";
import { withDatabase } from "./harness/stack.ts";
import { fill } from "./outbox/fill.ts";
import { createLedger } from "./outbox/ledger.ts";
import { empty, noting, openDb, partitions, registered, serving } from "./outbox/queue.ts";
import { scaled, summarise } from "./support.ts";

const MESSAGES = 50_000;
const ROUNDS = 2;
const IDLE_MS = 6_000;

/** One knob at a time; the others stand at their defaults, with 64 partitions. */
const knobs = {
  num_partitions: [1, 4, 16, 64],
  batch_size: [1, 10, 100, 1_000],
  claim_partitions: [1, 4, 16, 64],
  processors: [1, 4, 16],
} as const satisfies Partial<Record<keyof OutboxConfig, readonly number[]>>;

const drain = async (db: Db, config: Partial<OutboxConfig>): Promise<number> => {
  // Another count of partitions is another set of queues.
  await db.query("truncate outbox_partition");
  const outbox = await registered(db, "bench", { config });
  const perTenant = scaled(Math.ceil(MESSAGES / partitions));
  await fill(db, outbox, { perTenant, producers: 16, batch: 100 });
  const ledger = createLedger(partitions, perTenant);
  const begin = performance.now();
  await outbox.start(serving({ usage: noting(ledger) }));
  await ledger.complete;
  await outbox.stop();
  const seconds = (performance.now() - begin) / 1_000;
  ledger.verify();
  await empty(db);
  return (perTenant * partitions) / seconds;
};

/** What a worker with nothing to do costs: CPU per second of its process and of the database, ms. */
const idle = async (db: Db, databasePid: number, pollMs: number): Promise<object> => {
  await db.query("truncate outbox_partition");
  let passes = 0;
  const outbox = await registered(db, "bench", {
    config: { poll_interval_ms: pollMs },
    onPass: () => {
      passes += 1;
    },
  });
  await outbox.start(serving({ usage: async (messages) => messages.map(() => done) }));
  await sleep(500);
  const before = { own: cpuMs(process.pid), database: familyCpuMs(databasePid), passes };
  const idleMs = scaled(IDLE_MS, 1_000);
  await sleep(idleMs);
  const result = {
    passes_per_second: digits(((passes - before.passes) * 1_000) / idleMs, 1),
    own_cpu_ms_per_second: digits(((cpuMs(process.pid) - before.own) * 1_000) / idleMs, 1),
    database_cpu_ms_per_second: digits(((familyCpuMs(databasePid) - before.database) * 1_000) / idleMs, 1),
  };
  await outbox.stop();
  return result;
};

/**
 * What each knob of the outbox does to the drain of a backlog, one at a time, and what polling costs a worker
 * with nothing to do. Fails when a message is missing, comes twice or comes out of order.
 */
export const run = (): Promise<object> =>
  withDatabase(async (server) => {
    const db = openDb(server.url);
    try {
      const machine = watchMachine(() => cpuMs(process.pid) + familyCpuMs(server.pid));
      const samples = new Map<string, number[]>();
      for (let round = 0; round < ROUNDS; round += 1) {
        for (const [knob, values] of Object.entries(knobs)) {
          for (const value of values) {
            const name = `${knob}_${value}`;
            const before = samples.get(name) ?? [];
            samples.set(name, [...before, await drain(db, { [knob]: value })]);
          }
        }
      }
      const polling: Record<string, object> = {};
      for (const pollMs of [50, 1_000]) {
        polling[`poll_interval_ms_${pollMs}`] = await idle(db, server.pid, pollMs);
      }
      return {
        messages: scaled(Math.ceil(MESSAGES / partitions)) * partitions,
        drained_per_second: Object.fromEntries(
          [...samples].map(([name, rates]) => [name, rounded(summarise(rates))]),
        ),
        idle: polling,
        machine: machine(),
      };
    } finally {
      await db.close();
    }
  });
