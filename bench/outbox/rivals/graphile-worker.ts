import { Logger, makeWorkerUtils, type Runner, run, type WorkerUtils } from "graphile-worker";
import pg from "pg";
import { positionOf } from "../queue.ts";
import { type Contender, payloadOf, workerUrl } from "./contender.ts";

const task = "deliver";
// Any moment that is over for the last job as well.
const past = Date.now() - 3_600_000;
const silent = new Logger(() => () => {});

const fieldsOf = (payload: unknown): { tenant_id: string; web_search_calls: number } =>
  payload as { tenant_id: string; web_search_calls: number };

/** graphile-worker in one of two shapes: as fast as it goes, or with a named queue per key, which keeps order. */
export const graphileWorker = (shape: "unordered" | "named_queues"): Contender => {
  let utils: WorkerUtils | undefined;
  let runner: Runner | undefined;
  let pool: pg.Pool | undefined;
  const opened = (): { utils: WorkerUtils; pool: pg.Pool } => {
    if (utils === undefined || pool === undefined) throw new Error("not installed");
    return { utils, pool };
  };
  // Jobs of one statement have one `run_at`, by which alone a named queue is ordered.
  const placeOf = (key: number, number: number): { queueName?: string; runAt?: Date } =>
    shape === "unordered" ? {} : { queueName: `key-${key}`, runAt: new Date(past + number) };
  return {
    name: shape === "unordered" ? "graphile_worker" : "graphile_worker_queues",
    set_up:
      shape === "unordered"
        ? "no queue names, concurrentJobs 24, localQueue 500, completeJobBatchDelay 0; no order"
        : "64 queue names, concurrentJobs 24, run_at given; order per queue name",
    share: shape === "unordered" ? 1 : 0.05,
    install: async (url) => {
      pool = new pg.Pool({ connectionString: url, max: 10 });
      pool.on("error", (error) => console.error(error));
      pool.on("connect", (client) => client.on("error", () => {}));
      utils = await makeWorkerUtils({ pgPool: pool, logger: silent });
      await utils.migrate();
    },
    enqueue: async (key, numbers) => {
      await opened().utils.addJobs(
        numbers.map((number) => ({
          identifier: task,
          payload: payloadOf(key, number),
          ...placeOf(key, number),
        })),
      );
    },
    enqueueWith: (client, key, number) =>
      client.query("select graphile_worker.add_job($1, payload := $2::json, queue_name := $3)", [
        task,
        JSON.stringify(payloadOf(key, number)),
        placeOf(key, number).queueName ?? null,
      ]),
    start: async (url, take) => {
      // Batches are for jobs without a queue: of a named one each fetch brings a single job, and the queue
      // stays locked until its completion is written.
      const batches =
        shape === "unordered"
          ? { localQueue: { size: 500 }, completeJobBatchDelay: 0, failJobBatchDelay: 0 }
          : {};
      runner = await run({
        preset: {
          worker: {
            connectionString: workerUrl(url),
            concurrentJobs: 24,
            maxPoolSize: 10,
            pollInterval: 500,
            ...batches,
          },
        },
        logger: silent,
        noHandleSignals: true,
        taskList: {
          [task]: async (payload) => {
            const { tenant_id: tenantId, web_search_calls: number } = fieldsOf(payload);
            take(positionOf(tenantId), number);
          },
        },
      });
    },
    left: async () =>
      (
        await opened().pool.query<{ left: number }>(
          "select count(*)::int as left from graphile_worker._private_jobs",
        )
      ).rows[0]?.left ?? Number.NaN,
    stop: async () => {
      await runner?.stop();
    },
    uninstall: async () => {
      await opened().pool.query("drop schema graphile_worker cascade");
      await opened().utils.release();
      await opened().pool.end();
    },
  };
};
