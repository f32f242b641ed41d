import pg from "pg";
import { PgBoss } from "pg-boss";
import { positionOf, tenants } from "../queue.ts";
import { type Contender, payloadOf, type Take, workerUrl } from "./contender.ts";

interface Data {
  readonly tenant_id: string;
  readonly web_search_calls: number;
}

const schema = "pgboss";
const single = "fifo";
const queueOf = (key: number): string => `usage-${key}`;

/**
 * pg-boss in one of two shapes: a queue per key with a worker each, which fetches batches without a pause
 * while they come back full, or one queue of the policy that promises order per key.
 */
export const pgBoss = (shape: "queues" | "key_strict_fifo"): Contender => {
  let producer: PgBoss | undefined;
  let worker: PgBoss | undefined;
  let pool: pg.Pool | undefined;
  const opened = (): { producer: PgBoss; pool: pg.Pool } => {
    if (producer === undefined || pool === undefined) throw new Error("not installed");
    return { producer, pool };
  };
  const bossOn = async (connectionString: string): Promise<PgBoss> => {
    const boss = new PgBoss({ connectionString, schema, max: 10, schedule: false });
    boss.on("error", (error) => console.error(error));
    return boss.start();
  };
  const queues = shape === "queues" ? tenants.map((_, key) => queueOf(key)) : [single];
  const nameOf = (key: number): string => (shape === "queues" ? queueOf(key) : single);
  return {
    name: shape === "queues" ? "pg_boss" : "pg_boss_fifo",
    set_up:
      shape === "queues"
        ? "64 queues, one worker each, batchSize 100, burstWhenBatchFull; one worker keeps creation order"
        : "one queue of policy key_strict_fifo, 64 keys, batchSize 64, burstWhenBatchFull, ids given; order per key",
    share: shape === "queues" ? 1 : 0.05,
    install: async (url) => {
      pool = new pg.Pool({ connectionString: url, max: 2 });
      producer = await bossOn(url);
      for (const name of queues) {
        await producer.createQueue(name, shape === "queues" ? {} : { policy: "key_strict_fifo" });
      }
    },
    enqueue: async (key, numbers) => {
      const jobs = numbers.map((number) => ({
        data: payloadOf(key, number),
        ...(shape === "queues" ? {} : { singletonKey: `${key}`, id: ascendingId(key, number) }),
      }));
      await opened().producer.insert(nameOf(key), jobs);
    },
    enqueueWith: (client, key, number) =>
      opened().producer.send(nameOf(key), payloadOf(key, number), {
        db: { executeSql: (text, values) => client.query(text, values) },
        ...(shape === "queues" ? {} : { singletonKey: `${key}` }),
      }),
    start: async (url, take) => {
      worker = await bossOn(workerUrl(url));
      const options = {
        batchSize: shape === "queues" ? 100 : 64,
        burstWhenBatchFull: true,
        pollingIntervalSeconds: 0.5,
      };
      for (const name of queues) await worker.work<Data>(name, options, handlerOf(take));
    },
    left: async () =>
      (
        await opened().pool.query<{ left: number }>(
          `select count(*)::int as left from ${schema}.job where state < 'completed'`,
        )
      ).rows[0]?.left ?? Number.NaN,
    stop: async () => {
      await worker?.stop({ graceful: true });
    },
    uninstall: async () => {
      await opened().producer.stop({ graceful: false });
      await opened().pool.query(`drop schema ${schema} cascade`);
      await opened().pool.end();
    },
  };
};

/** Jobs of one insert have one creation time; the policy orders those by id, which is random if not given. */
const ascendingId = (key: number, number: number): string =>
  `${number.toString(16).padStart(8, "0")}-0000-4000-8000-${key.toString(16).padStart(12, "0")}`;

const handlerOf =
  (take: Take) =>
  async (jobs: readonly { readonly data: Data }[]): Promise<void> => {
    for (const { data } of jobs) take(positionOf(data.tenant_id), data.web_search_calls);
  };
