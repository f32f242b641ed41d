import type { Db } from "../packages/server/src/db/pool.ts";
import { inTransaction } from "../packages/server/src/db/tx.ts";
import { done } from "../packages/server/src/outbox/message.ts";
import { cpuMs, digits, familyCpuMs, rounded, watchMachine } from "./harness/measure.ts";
import { withDatabase } from "./harness/stack.ts";
import { fill } from "./outbox/fill.ts";
import { createLedger, type Ledger } from "./outbox/ledger.ts";
import {
  empty,
  noting,
  numberOf,
  openDb,
  partitions,
  registered,
  serving,
  tenants,
  usageEvent,
  waiting,
  walPosition,
} from "./outbox/queue.ts";
import { scaled, summarise } from "./support.ts";

const MESSAGES = 100_000;
const PRODUCERS = 16;
const BATCH = 100;
const ROUNDS = 3;

interface Drain {
  readonly enqueued_per_second: number;
  readonly wal_bytes_per_enqueue: number;
  readonly drained_per_second: number;
  readonly wal_bytes_per_delivery: number;
}

const verified = async (db: Db, ledger: Ledger): Promise<void> => {
  ledger.verify();
  const left = await waiting(db);
  if (left !== 0) throw new Error(`${left} messages were not acknowledged`);
};

/** Fills 64 partitions, then drains them with a handler that only looks at the numbers. */
const drainOnce = async (db: Db): Promise<Drain> => {
  const perTenant = scaled(Math.ceil(MESSAGES / partitions));
  const total = perTenant * partitions;
  const outbox = await registered(db, "bench");
  const ledger = createLedger(partitions, perTenant);
  const before = await walPosition(db);
  const fillSeconds = await fill(db, outbox, { perTenant, producers: PRODUCERS, batch: BATCH });
  const full = await walPosition(db);
  const begin = performance.now();
  await outbox.start(serving({ usage: noting(ledger) }));
  await ledger.complete;
  // Includes the last acknowledgements.
  await outbox.stop();
  const seconds = (performance.now() - begin) / 1_000;
  const after = await walPosition(db);
  await verified(db, ledger);
  return {
    enqueued_per_second: total / fillSeconds,
    wal_bytes_per_enqueue: (full - before) / total,
    drained_per_second: total / seconds,
    wal_bytes_per_delivery: (after - full) / total,
  };
};

/** One producer and one worker at once over one partition: messages per second from first write to last acknowledgement. */
const endToEndOnce = async (db: Db): Promise<number> => {
  const total = scaled(MESSAGES);
  const tenant = tenants[0] ?? "";
  const outbox = await registered(db, "bench");
  const ledger = createLedger(1, total);
  await outbox.start(
    serving({
      usage: async (messages) => {
        for (const message of messages) ledger.take(0, numberOf(message));
        return messages.map(() => done);
      },
    }),
  );
  const begin = performance.now();
  for (let from = 0; from < total; from += BATCH) {
    const length = Math.min(BATCH, total - from);
    await inTransaction(db, async (tx) => {
      void outbox.enqueuer.enqueueMany(
        tx,
        Array.from({ length }, (_, at) => ({ kind: "usage", event: usageEvent(tenant, from + at) }) as const),
      );
      tx.afterCommit(outbox.flush);
      tx.commitNow();
    });
  }
  await ledger.complete;
  await outbox.stop();
  const seconds = (performance.now() - begin) / 1_000;
  await verified(db, ledger);
  return total / seconds;
};

/**
 * The outbox on an embedded server that waits for its disk: rate and WAL of writing and of draining
 * 100,000 messages over 64 partitions, 100 to a transaction, and of one producer and one partition end
 * to end. Fails when a message is missing, comes twice or comes out of order.
 */
export const run = (): Promise<object> =>
  withDatabase(async (server) => {
    const db = openDb(server.url);
    try {
      const machine = watchMachine(() => cpuMs(process.pid) + familyCpuMs(server.pid));
      const drains: Drain[] = [];
      const endToEnd: number[] = [];
      for (let round = 0; round < ROUNDS; round += 1) {
        drains.push(await drainOnce(db));
        await empty(db);
        endToEnd.push(await endToEndOnce(db));
        await empty(db);
      }
      const of = (field: keyof Drain) => rounded(summarise(drains.map((drain) => drain[field])));
      return {
        messages: scaled(MESSAGES),
        partitions,
        producers: PRODUCERS,
        enqueued_per_second: of("enqueued_per_second"),
        wal_bytes_per_enqueue: of("wal_bytes_per_enqueue"),
        drained_per_second: of("drained_per_second"),
        wal_bytes_per_delivery: of("wal_bytes_per_delivery"),
        payload_bytes: JSON.stringify(usageEvent(tenants[0] ?? "", 0)).length,
        wal_bytes_per_message: digits(
          of("wal_bytes_per_enqueue").median + of("wal_bytes_per_delivery").median,
        ),
        one_partition_per_second: rounded(summarise(endToEnd)),
        machine: machine(),
      };
    } finally {
      await db.close();
    }
  });
