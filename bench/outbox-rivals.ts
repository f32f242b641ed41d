import { setTimeout as sleep } from "node:timers/promises";
import pg from "pg";
import { inTransaction } from "../packages/server/src/db/tx.ts";
import { cpuMs, digits, familyCpuMs, rounded, watchMachine } from "./harness/measure.ts";
import { withDatabase } from "./harness/stack.ts";
import { createLedger } from "./outbox/ledger.ts";
import { empty, openDb, partitions, registered, usageEvent } from "./outbox/queue.ts";
import { type Contender, payloadOf } from "./outbox/rivals/contender.ts";
import { graphileWorker } from "./outbox/rivals/graphile-worker.ts";
import { miniChat } from "./outbox/rivals/mini-chat.ts";
import { pgBoss } from "./outbox/rivals/pg-boss.ts";
import { scaled, summarise } from "./support.ts";

const MESSAGES = 100_000;
const PRODUCERS = 16;
const BATCH = 100;
const ROUNDS = 3;
const SINGLE = 500;

interface Round {
  readonly enqueuedPerSecond: number;
  readonly drainedPerSecond: number;
  readonly orderViolations: number;
  readonly duplicates: number;
}

const fill = async (contender: Contender, perKey: number): Promise<number> => {
  const begin = performance.now();
  const todo = Array.from({ length: partitions }, (_, key) => key);
  const produce = async (): Promise<void> => {
    for (let key = todo.shift(); key !== undefined; key = todo.shift()) {
      for (let from = 0; from < perKey; from += BATCH) {
        const numbers = Array.from({ length: Math.min(BATCH, perKey - from) }, (_, at) => from + at);
        await contender.enqueue(key, numbers);
      }
    }
  };
  await Promise.all(Array.from({ length: PRODUCERS }, produce));
  return (performance.now() - begin) / 1_000;
};

/** Fills and drains; the clock stops when every message is acknowledged. */
const playRound = async (url: string, contender: Contender): Promise<Round> => {
  await contender.install(url);
  try {
    const perKey = Math.max(1, Math.ceil((scaled(MESSAGES) * contender.share) / partitions));
    const total = perKey * partitions;
    const fillSeconds = await fill(contender, perKey);
    const ledger = createLedger(partitions, perKey);
    const begin = performance.now();
    await contender.start(url, ledger.take);
    await ledger.complete;
    while ((await contender.left()) > 0) await sleep(5);
    const seconds = (performance.now() - begin) / 1_000;
    await contender.stop();
    if (contender.name === "mini_chat") ledger.verify();
    return {
      enqueuedPerSecond: total / fillSeconds,
      drainedPerSecond: total / seconds,
      orderViolations: ledger.orderViolations,
      duplicates: ledger.duplicates,
    };
  } finally {
    await contender.uninstall();
  }
};

/** Milliseconds that one enqueue adds to a transaction of its caller that writes a row. */
const addedByOne = async (url: string, contender: Contender): Promise<number> => {
  await contender.install(url);
  const client = new pg.Client({ connectionString: url });
  await client.connect();
  const transaction = async (enqueue: boolean, at: number): Promise<void> => {
    await client.query("begin");
    await client.query("update bench_account set n = n + 1 where id = $1", [at % partitions]);
    if (enqueue) await contender.enqueueWith?.(client, at % partitions, at);
    await client.query("commit");
  };
  try {
    return await medianDifference(transaction);
  } finally {
    await client.end();
    await contender.uninstall();
  }
};

const addedByOurs = async (url: string): Promise<number> => {
  const db = openDb(url);
  try {
    const outbox = await registered(db, "bench");
    const added = await medianDifference(async (enqueue, at) => {
      await inTransaction(db, async (tx) => {
        await tx.query("update bench_account set n = n + 1 where id = $1", [at % partitions]);
        const { tenant_id: tenantId } = payloadOf(at % partitions, at);
        if (enqueue) await outbox.enqueuer.enqueueUsageEvent(tx, usageEvent(tenantId, at));
      });
    });
    await empty(db);
    return added;
  } finally {
    await db.close();
  }
};

const medianDifference = async (
  transaction: (enqueue: boolean, at: number) => Promise<void>,
): Promise<number> => {
  const samples: Record<"with" | "without", number[]> = { with: [], without: [] };
  const warmUp = 50;
  for (let at = 0; at < scaled(SINGLE) + warmUp; at += 1) {
    for (const name of ["without", "with"] as const) {
      const begin = performance.now();
      await transaction(name === "with", at);
      if (at >= warmUp) samples[name].push(performance.now() - begin);
    }
  }
  return summarise(samples.with).median - summarise(samples.without).median;
};

/**
 * The outbox beside the two most used PostgreSQL job queues for Node, in turns on one server that waits
 * for its disk: the same payloads, 100 to a transaction, 64 keys, and a handler that does nothing.
 */
export const run = (): Promise<object> =>
  withDatabase(async (server) => {
    const contenders = [
      miniChat(),
      pgBoss("queues"),
      graphileWorker("unordered"),
      pgBoss("key_strict_fifo"),
      graphileWorker("named_queues"),
    ];
    const machine = watchMachine(() => cpuMs(process.pid) + familyCpuMs(server.pid));
    const rounds = new Map<Contender, Round[]>(contenders.map((contender) => [contender, []]));
    for (let round = 0; round < ROUNDS; round += 1) {
      for (const contender of contenders) rounds.get(contender)?.push(await playRound(server.url, contender));
    }
    const db = openDb(server.url, 1);
    await db.query("create table bench_account (id int primary key, n int not null)");
    await db.query("insert into bench_account select id, 0 from generate_series(0, 63) id");
    await db.close();
    const results: Record<string, object> = {};
    for (const contender of contenders) {
      const played = rounds.get(contender) ?? [];
      const added =
        contender.enqueueWith === null
          ? await addedByOurs(server.url)
          : await addedByOne(server.url, contender);
      results[contender.name] = {
        set_up: contender.set_up,
        messages: Math.ceil((scaled(MESSAGES) * contender.share) / partitions) * partitions,
        drained_per_second: rounded(summarise(played.map((one) => one.drainedPerSecond))),
        enqueued_per_second: rounded(summarise(played.map((one) => one.enqueuedPerSecond))),
        added_ms_by_one_enqueue: digits(added),
        order_violations: played.map((one) => one.orderViolations),
        duplicates: played.map((one) => one.duplicates),
      };
    }
    return { rounds: ROUNDS, keys: partitions, ...results, machine: machine() };
  });
