import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import type { Db } from "../packages/server/src/db/pool.ts";
import { cpuMs, digits, familyCpuMs, residentBytes, watchMachine } from "./harness/measure.ts";
import { withDatabase } from "./harness/stack.ts";
import { fillFast } from "./outbox/fill.ts";
import { startWorker, type WorkerOptions } from "./outbox/processes.ts";
import { empty, openDb, partitions, registered, waiting } from "./outbox/queue.ts";
import { scaled } from "./support.ts";

const sizes = {
  few: 1_024,
  /** More than one full claim: two batches of each partition. */
  claims: 12_800,
  many: scaled(1_000_000, 25_600),
} as const;
type Size = keyof typeof sizes;
const KEYS_PER_PARTITION = 16;
const SETTLE_MS = 12_000;
const mib = 1_048_576;

const probe = fileURLToPath(new URL("harness/memory-probe.mjs", import.meta.url));

/** Why messages wait. */
const cases: Readonly<Record<string, Pick<WorkerOptions, "mode" | "queues">>> = {
  /** The handler leaves all it gets unattempted. */
  refused: { mode: "refuse" },
  /** The first message of each partition fails and holds up what is behind it. */
  blocked_head: { mode: "fail", queues: { override: { usage: { policy: "block" } } } },
  /** The first message of each key fails, so that all keys are parked. */
  parked_keys: { mode: "fail" },
};

interface Memory {
  readonly rss_mib: number;
  readonly heap_mib: number;
  /** CPU it took while everything waited: cores. */
  readonly cores: number;
  readonly database_cores: number;
}

const memoryOf = async (
  options: Pick<WorkerOptions, "url" | "dir" | "name" | "mode" | "queues">,
  databasePid: number,
): Promise<Memory> => {
  const file = join(options.dir, `${options.name}.json`);
  const worker = await startWorker({
    ...options,
    nodeArgs: ["--expose-gc", "--import", probe],
    env: { BENCH_MEMORY_FILE: file },
  });
  await worker.begin();
  const settleMs = scaled(SETTLE_MS, 3_000);
  await sleep(settleMs / 2);
  const before = { own: cpuMs(worker.pid), database: familyCpuMs(databasePid) };
  await sleep(settleMs / 2);
  const cores = (cpuMs(worker.pid) - before.own) / (settleMs / 2);
  const databaseCores = (familyCpuMs(databasePid) - before.database) / (settleMs / 2);
  worker.child.kill("SIGUSR2");
  while (!existsSync(file)) await sleep(20);
  const { heapUsed } = JSON.parse(readFileSync(file, "utf8")) as NodeJS.MemoryUsage;
  const rss = residentBytes(worker.pid);
  await worker.stop();
  return {
    rss_mib: digits(rss / mib, 1),
    heap_mib: digits(heapUsed / mib, 1),
    cores: digits(cores),
    database_cores: digits(databaseCores),
  };
};

const reset = async (db: Db): Promise<void> => {
  await db.query("truncate outbox_parked");
  await db.query(`
    update outbox_partition
    set
      lease_token = null, lease_until = null, not_before = null, head_id = null, head_attempts = 0,
      last_served_at = null, last_error = null, scan_from = 0, read_from = 0`);
};

const ratios = ({ few, claims, many }: Partial<Record<Size, Memory>>): object => ({
  many_to_few: {
    rss: digits((many?.rss_mib ?? 0) / (few?.rss_mib ?? 0)),
    heap: digits((many?.heap_mib ?? 0) / (few?.heap_mib ?? 0)),
  },
  many_to_claims: {
    rss: digits((many?.rss_mib ?? 0) / (claims?.rss_mib ?? 0)),
    heap: digits((many?.heap_mib ?? 0) / (claims?.heap_mib ?? 0)),
  },
});

/**
 * Memory of a worker process, after a collection, while a million messages wait, against a thousand and
 * against what fills two claims: refused by the handler, held up by the first of their partition, or with all their keys parked.
 * Fails when a waiting message is gone.
 */
export const run = (): Promise<object> =>
  withDatabase(async (server, dir) => {
    const db = openDb(server.url, 2);
    try {
      await registered(db, "bench");
      const machine = watchMachine(() => cpuMs(process.pid) + familyCpuMs(server.pid));
      const found: Record<string, Partial<Record<Size, Memory>>> = {};
      for (const size of ["few", "claims", "many"] as const) {
        const perPartition = Math.ceil(sizes[size] / partitions);
        await empty(db);
        const shares = Array.from({ length: partitions }, (_, partition) => ({
          kind: "usage" as const,
          partition,
          count: perPartition,
        }));
        await fillFast(db, shares, KEYS_PER_PARTITION);
        await db.query("vacuum analyze outbox_message");
        for (const [name, how] of Object.entries(cases)) {
          await reset(db);
          const options = { url: server.url, dir, name: `${name}-${size}`, ...how };
          found[name] = { ...found[name], [size]: await memoryOf(options, server.pid) };
          const left = await waiting(db);
          if (left !== perPartition * partitions) throw new Error(`${left} messages wait`);
        }
      }
      return {
        waiting: sizes,
        keys: partitions * KEYS_PER_PARTITION,
        ...Object.fromEntries(Object.entries(found).map(([name, one]) => [name, { ...one, ...ratios(one) }])),
        machine: machine(),
      };
    } finally {
      await db.close();
    }
  });
