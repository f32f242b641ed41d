import { setTimeout as sleep } from "node:timers/promises";
import type { Db } from "../../packages/server/src/db/pool.ts";
import { inTransaction } from "../../packages/server/src/db/tx.ts";
import { digits, nowNs } from "../harness/measure.ts";
import { type Run, recorded, startWorker } from "./processes.ts";
import { empty, openDb, partitions, registered, tenants, usageEvent, waiting } from "./queue.ts";

const LANES = 4;
const BATCH = 10;
const LOAD_MS = 4_000;
/** As an effect over the network would take: whoever is killed has something in hand. */
const HANDLER_MS = 50;

const nowMs = (): number => Number(nowNs()) / 1e6;

export interface KillResult {
  readonly lease_ms: number;
  readonly messages: number;
  /** From the kill until everything committed before it was delivered for the last time. */
  readonly recovered_after_ms: number;
  readonly duplicates: number;
}

/** Two workers at load, one of them killed: when everything that was committed by then has arrived. */
export const killOne = async (
  url: string,
  dir: string,
  round: number,
  leaseMs: number,
): Promise<KillResult> => {
  const db = openDb(url);
  try {
    const queues = { override: { usage: { leaseMs, headroomMs: Math.min(2_000, leaseMs / 4) } } };
    const workers = await Promise.all(
      ["doomed", "other"].map((name) =>
        startWorker({ url, dir, name: `${name}-${round}`, mode: "record", handlerMs: HANDLER_MS, queues }),
      ),
    );
    const [doomed, other] = workers;
    if (doomed === undefined || other === undefined) throw new Error("no workers");
    await Promise.all(workers.map((worker) => worker.begin()));
    const load = produce(db);
    await sleep(LOAD_MS / 2);
    const killedAt = nowMs();
    await doomed.kill();
    const committedAt = await load;
    while ((await waiting(db)) > 0) await sleep(50);
    await other.stop();
    const result = judge(recorded(workers), committedAt, killedAt);
    await empty(db);
    return { lease_ms: leaseMs, ...result };
  } finally {
    await db.close();
  }
};

/** Commits as fast as it goes for a while; when each message was committed, by tenant and number. */
const produce = async (db: Db): Promise<number[][]> => {
  const outbox = await registered(db, "producer");
  const committedAt: number[][] = tenants.map(() => []);
  const end = performance.now() + LOAD_MS;
  const lane = async (first: number): Promise<void> => {
    for (let key = first; performance.now() < end; key = (key + LANES) % partitions) {
      const times = committedAt[key] ?? [];
      const numbers = Array.from({ length: BATCH }, (_, at) => times.length + at);
      await inTransaction(db, (tx) =>
        outbox.enqueuer.enqueueMany(
          tx,
          numbers.map(
            (number) => ({ kind: "usage", event: usageEvent(tenants[key] ?? "", number) }) as const,
          ),
        ),
      );
      const at = nowMs();
      times.push(...numbers.map(() => at));
    }
  };
  await Promise.all(Array.from({ length: LANES }, (_, at) => lane(at)));
  return committedAt;
};

/** Order of first deliveries and completeness; only what the killed process had may come twice. */
const judge = (
  runs: readonly Run[],
  committedAt: readonly (readonly number[])[],
  killedAt: number,
): Omit<KillResult, "lease_ms"> => {
  const next = committedAt.map(() => 0);
  const takenBy = committedAt.map((): number[] => []);
  let duplicates = 0;
  let lastAt = killedAt;
  for (const { worker, key, first, last, at } of runs) {
    for (let number = first; number <= last; number += 1) {
      const expected = next[key] ?? 0;
      if (number > expected) throw new Error(`key ${key}: ${number} came before ${expected}`);
      const before = takenBy[key]?.[number];
      if (before === undefined) next[key] = number + 1;
      else if (before !== 0) throw new Error(`key ${key}: ${number} came twice from a living process`);
      else duplicates += 1;
      if (takenBy[key] !== undefined) takenBy[key][number] = worker;
      const committed = committedAt[key]?.[number] ?? Number.POSITIVE_INFINITY;
      if (committed < killedAt) lastAt = Math.max(lastAt, at);
    }
  }
  const lost = committedAt.findIndex((times, key) => times.length !== next[key]);
  if (lost >= 0) throw new Error(`key ${lost}: ${next[lost]} of ${committedAt[lost]?.length} messages came`);
  return {
    messages: committedAt.reduce((sum, times) => sum + times.length, 0),
    recovered_after_ms: digits(lastAt - killedAt, 0),
    duplicates,
  };
};
