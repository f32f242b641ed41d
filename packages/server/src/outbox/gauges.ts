import type { Queryable } from "../db/pool.ts";
import type { Metrics } from "../telemetry/metrics.ts";
import { type QueueKind, type QueueSettings, queueKinds } from "./queue.ts";
import { readDepth } from "./store.ts";

/** Sets the gauges of backlog and dead letters from the tables; any worker may do it (outbox.md §16). */
export const recordDepth = async (
  db: Queryable,
  metrics: Metrics,
  queues: Readonly<Record<QueueKind, QueueSettings>>,
): Promise<void> => {
  const names = queueKinds.map((kind) => queues[kind].name);
  const depths = new Map((await readDepth(db, names)).map((depth) => [depth.queue, depth]));
  for (const kind of queueKinds) {
    const depth = depths.get(queues[kind].name);
    metrics.set("outbox_backlog", { kind }, depth?.backlog ?? 0);
    metrics.set("outbox_oldest_pending_age_seconds", { kind }, depth?.oldestAgeSecs ?? 0);
    metrics.set("outbox_dead_letter_backlog", { kind }, depth?.dead ?? 0);
    metrics.set("outbox_dead_letter_oldest_age_seconds", { kind }, depth?.deadOldestAgeSecs ?? 0);
  }
};
