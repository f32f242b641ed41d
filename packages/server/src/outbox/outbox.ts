import { randomBytes } from "node:crypto";
import type { DirectConnection } from "../db/direct.ts";
import type { Db } from "../db/pool.ts";
import { type Loop, startLoop } from "../lib/loop.ts";
import { type Logger, noLogger } from "../telemetry/log.ts";
import { type Metrics, noMetrics } from "../telemetry/metrics.ts";
import { Dispatcher } from "./dispatcher.ts";
import { createEnqueuer, type OutboxEnqueuer, OutboxError } from "./enqueuer.ts";
import { recordDepth } from "./gauges.ts";
import type { Served } from "./held.ts";
import type { Handlers } from "./message.ts";
import { type QueueNames, type QueueOptions, queueKinds, queueSettings } from "./queue.ts";
import { registerQueues } from "./register.ts";
import type { PartitionMap } from "./store.ts";
import { createThrottle } from "./wake.ts";

/** The outbox section of the configuration (ops.md §2.4). */
export interface OutboxConfig extends QueueNames {
  readonly num_partitions: number;
  readonly poll_interval_ms: number;
  /** With `claim_partitions`: a process holds at most their product of partitions at a time. */
  readonly processors: number;
  readonly batch_size: number;
  readonly claim_partitions: number;
  readonly retry_base_ms: number;
  readonly retry_max_ms: number;
  readonly notify: boolean;
}

export interface OutboxDeps {
  readonly db: Db;
  /** For wake-ups between processes; without it they find work by polling. */
  readonly direct?: Pick<DirectConnection, "listen" | "notify"> | undefined;
  readonly config: OutboxConfig;
  readonly instanceId: string;
  readonly logger?: Logger | undefined;
  readonly metrics?: Metrics | undefined;
  readonly queues?: QueueOptions | undefined;
  /** `worker_stop_timeout_secs`, in milliseconds. Default 5000. */
  readonly stopTimeoutMs?: number | undefined;
  readonly onPass?: (() => void) | undefined;
}

export interface Outbox {
  /** Creates or checks the partitions; needs only the database. Before it, every enqueue fails. */
  register(): Promise<void>;
  readonly enqueuer: OutboxEnqueuer;
  /** Starts delivering, after one pass over what waits (outbox.md §7). */
  start(handlers: Handlers): Promise<void>;
  /** Resolves when no handler runs and no lease is held (outbox.md §14). */
  stop(): Promise<void>;
  /** Wakes the workers; call it after the commit. Never throws, never blocks. */
  flush(): void;
}

/** Channel of the wake-ups between processes; a notification names its sender. */
export const outboxChannel = "mini_chat_outbox";
const gaugeIntervalMs = 15_000;
// Without a worker of its own a process is heard at once; with one, others only help.
const notifySpacingMs = { alone: 2, served: 20 } as const;

/**
 * The transactional outbox of this process (outbox.md, outbox-engine.md): events are written in their
 * caller's transaction and delivered at least once, in order, by any process that has started workers.
 */
export const createOutbox = (deps: OutboxDeps): Outbox => {
  const { db, direct, config, logger = noLogger, metrics = noMetrics } = deps;
  const queues = queueSettings(config, deps.queues);
  let partitions: PartitionMap | null = null;
  let dispatcher: Dispatcher | null = null;
  let gauges: Loop | null = null;
  const notifier = createThrottle(
    () => direct?.notify(outboxChannel, deps.instanceId),
    () => (dispatcher === null ? notifySpacingMs.alone : notifySpacingMs.served),
  );

  const flush = (): void => {
    if (partitions === null) return;
    dispatcher?.wake();
    if (config.notify) notifier.call();
  };

  const start = async (handlers: Handlers): Promise<void> => {
    if (partitions === null) throw new OutboxError("outbox_not_started", "register() comes before start()");
    const served = servedQueues(handlers, queues, deps.instanceId);
    if (served.length === 0) return;
    const kinds = new Map(queueKinds.flatMap((kind) => (partitions?.[kind] ?? []).map((id) => [id, kind])));
    const started = new Dispatcher({
      db,
      logger,
      metrics,
      served,
      kindOf: (partitionId) => kinds.get(partitionId),
      batchSize: config.batch_size,
      claimPartitions: config.claim_partitions,
      maxHeld: config.processors * config.claim_partitions,
      pollMs: config.poll_interval_ms,
      retryBaseMs: config.retry_base_ms,
      retryMaxMs: config.retry_max_ms,
      onPass: deps.onPass,
    });
    dispatcher = started;
    if (config.notify) {
      // Once connected again it listens by itself, and until then the poll finds the work.
      await direct
        ?.listen(outboxChannel, (sender) => {
          if (sender !== deps.instanceId) started.wake();
        })
        .catch((error: unknown) => logger.warn({ err: error }, "outbox does not hear other processes"));
    }
    await started.start();
    gauges = startLoop(() => recordDepth(db, { metrics, logger }, queues), {
      intervalMs: gaugeIntervalMs,
      firstDelayMs: 0,
      onError: (error) => logger.warn({ err: error }, "outbox gauges not available"),
    });
  };

  return {
    register: async () => {
      partitions = await registerQueues(db, queues, config.num_partitions);
    },
    enqueuer: createEnqueuer({ queues, partitions: () => partitions, flush, logger, metrics }),
    start,
    stop: async () => {
      notifier.stop();
      await Promise.all([gauges?.stop(), dispatcher?.stop(deps.stopTimeoutMs ?? 5_000)]);
    },
    flush,
  };
};

const servedQueues = (
  handlers: Handlers,
  queues: ReturnType<typeof queueSettings>,
  instanceId: string,
): Served[] =>
  queueKinds.flatMap((kind) => {
    const handler = handlers[kind];
    const settings = queues[kind];
    if (handler === "keep_waiting") return [];
    return [{ settings, handler, worker: `${instanceId}:${settings.name}:${workerSuffix()}` }];
  });

const suffixLetters = "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789";

/** Six random characters that tell two starts of one instance apart (outbox.md §13). */
const workerSuffix = (): string =>
  Array.from(randomBytes(6), (byte) => suffixLetters[byte % suffixLetters.length]).join("");
