import { setTimeout as sleep } from "node:timers/promises";
import { DirectConnection } from "../packages/server/src/db/direct.ts";
import type { Db } from "../packages/server/src/db/pool.ts";
import { inTransaction } from "../packages/server/src/db/tx.ts";
import { done } from "../packages/server/src/outbox/message.ts";
import type { Outbox } from "../packages/server/src/outbox/outbox.ts";
import { cpuMs, familyCpuMs, nowNs, rounded, watchMachine } from "./harness/measure.ts";
import { withDatabase } from "./harness/stack.ts";
import { createLedger } from "./outbox/ledger.ts";
import { enqueueOverhead } from "./outbox/overhead.ts";
import { type Answer, startWorker } from "./outbox/processes.ts";
import {
  numberOf,
  openDb,
  partitions,
  positionOf,
  registered,
  serving,
  tenants,
  usageEvent,
  waiting,
} from "./outbox/queue.ts";
import { type Summary, scaled, summarise } from "./support.ts";

const SINGLE = 1_024;
const STEADY = 1_024;
const STEADY_MS = 10;
const POLLED = 2_048;

const nowMs = (): number => Number(nowNs()) / 1e6;

/** Where messages come out: `handed` is called with the number within the tenant and the time. */
interface Exit {
  onHanded: (tenantId: string, number: number, at: number) => void;
  stop(): Promise<void>;
}

const ownExit = async (worker: Outbox): Promise<Exit> => {
  const exit: Exit = { onHanded: () => {}, stop: () => worker.stop() };
  await worker.start(
    serving({
      usage: async (messages) => {
        const at = nowMs();
        for (const message of messages) exit.onHanded(message.tenantId, numberOf(message), at);
        return messages.map(() => done);
      },
    }),
  );
  return exit;
};

const farExit = async (url: string, dir: string, notify: boolean): Promise<Exit> => {
  const name = notify ? "hears" : "polls";
  const worker = await startWorker({ url, dir, name, mode: "answer", config: { notify } });
  const exit: Exit = { onHanded: () => {}, stop: worker.stop };
  await worker.begin();
  worker.child.on("message", (answer: Answer) => {
    if (typeof answer === "object") exit.onHanded(answer.tenantId, answer.number, answer.at);
  });
  return exit;
};

/**
 * Milliseconds from the commit's answer to the handler for `count` messages; `pace` says when the next one
 * is due, given the delivery of the last.
 */
const measure = async (
  db: Db,
  producer: Outbox,
  exit: Exit,
  count: number,
  pace: (number: number, delivered: Promise<void>) => Promise<unknown>,
): Promise<Summary> => {
  const perTenant = Math.ceil(count / partitions);
  const total = perTenant * partitions;
  const ledger = createLedger(partitions, perTenant);
  const committedAt = new Map<string, number>();
  const handedAt = new Map<string, number>();
  let delivered = Promise.withResolvers<void>();
  exit.onHanded = (tenantId, number, at) => {
    ledger.take(positionOf(tenantId), number);
    handedAt.set(`${tenantId} ${number}`, at);
    delivered.resolve();
  };
  for (let at = 0; at < total; at += 1) {
    const tenantId = tenants[at % partitions] ?? "";
    const number = Math.floor(at / partitions);
    delivered = Promise.withResolvers<void>();
    await inTransaction(db, async (tx) => {
      void producer.enqueuer.enqueueUsageEvent(tx, usageEvent(tenantId, number));
      tx.afterCommit(() => {
        committedAt.set(`${tenantId} ${number}`, nowMs());
        producer.flush();
      });
      tx.commitNow();
    });
    await pace(at, delivered.promise);
  }
  await ledger.complete;
  ledger.verify();
  while ((await waiting(db)) > 0) await sleep(10);
  return rounded(summarise([...handedAt].map(([id, at]) => at - (committedAt.get(id) ?? Number.NaN))));
};

/** Each message once the last one is delivered, at a random phase of everything that has a rhythm. */
const single = (_: number, delivered: Promise<void>): Promise<void> =>
  delivered.then(() => sleep(5 + Math.random() * 20));

const steady = (): ((number: number) => Promise<void>) => {
  const begin = performance.now();
  return (number) => sleep(Math.max(0, begin + (number + 1) * STEADY_MS - performance.now()));
};

interface Place {
  readonly url: string;
  readonly dir: string;
  readonly db: Db;
}

const inSameProcess = async ({ db }: Place) => {
  const own = await registered(db, "own");
  const exit = await ownExit(own);
  const one = await measure(db, own, exit, scaled(SINGLE, partitions), single);
  const paced = await measure(db, own, exit, scaled(STEADY, partitions), steady());
  await exit.stop();
  return { one_at_a_time: one, at_100_per_second: paced };
};

const acrossProcesses = async ({ url, dir, db }: Place) => {
  const direct = new DirectConnection({ url });
  await direct.start();
  const producer = await registered(db, "producer", { direct });
  const exit = await farExit(url, dir, true);
  const one = await measure(db, producer, exit, scaled(SINGLE, partitions), single);
  const paced = await measure(db, producer, exit, scaled(STEADY, partitions), steady());
  await exit.stop();
  await direct.stop();
  return { one_at_a_time: one, at_100_per_second: paced };
};

const byPolling = async ({ url, dir, db }: Place): Promise<Summary> => {
  const producer = await registered(db, "producer", { config: { notify: false } });
  const exit = await farExit(url, dir, false);
  const paced = await measure(db, producer, exit, scaled(POLLED, partitions), steady());
  await exit.stop();
  return paced;
};

/**
 * The delay from commit to handler, in one process and between two, of single messages and of 100 per
 * second, and what an enqueue costs its caller's transaction.
 */
export const run = (): Promise<object> =>
  withDatabase(async (server, dir) => {
    const db = openDb(server.url);
    try {
      const machine = watchMachine(() => cpuMs(process.pid) + familyCpuMs(server.pid));
      const place = { url: server.url, dir, db };
      return {
        commit_to_handler_ms: {
          same_process: await inSameProcess(place),
          other_process: await acrossProcesses(place),
          polling_only: await byPolling(place),
        },
        enqueue: await enqueueOverhead(db),
        machine: machine(),
      };
    } finally {
      await db.close();
    }
  });
