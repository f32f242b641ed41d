import type { Db } from "../db/pool.ts";
import type { Logger } from "../telemetry/log.ts";
import type { Metrics } from "../telemetry/metrics.ts";
import { type QueueKind, type QueueSettings, queueKinds } from "./queue.ts";
import { readDepth, resetScans } from "./store.ts";

/**
 * Sets the gauges of backlog and dead letters from the tables; any worker may do it (outbox.md §16).
 * Messages that claims would never reach, which only a table changed by hand can have, are made
 * reachable again: no committed event is dropped (O6).
 */
export const recordDepth = async (
  db: Db,
  { metrics, logger }: { readonly metrics: Metrics; readonly logger: Logger },
  queues: Readonly<Record<QueueKind, QueueSettings>>,
): Promise<void> => {
  const names = queueKinds.map((kind) => queues[kind].name);
  const depths = await readDepth(db, names);
  for (const kind of queueKinds) {
    const depth = depths.find(({ queue }) => queue === queues[kind].name);
    metrics.set("outbox_backlog", { kind }, depth?.backlog ?? 0);
    metrics.set("outbox_oldest_pending_age_seconds", { kind }, depth?.oldestAgeSecs ?? 0);
    metrics.set("outbox_dead_letter_backlog", { kind }, depth?.dead ?? 0);
    metrics.set("outbox_dead_letter_oldest_age_seconds", { kind }, depth?.deadOldestAgeSecs ?? 0);
  }
  const stranded = depths.flatMap((depth) => depth.stranded);
  if (stranded.length === 0) return;
  await resetScans(db, stranded);
  metrics.count("outbox_gap_detected", {}, stranded.length);
  logger.critical(
    { partition_ids: stranded, processing_stage: "outbox" },
    "outbox messages lay below the bound of the claims; they are looked at again",
  );
};
