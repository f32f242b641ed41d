import type { BatchOptions, Held } from "./batches.ts";
import type { Settlement } from "./settle.ts";

/**
 * Counts and logs what became of a batch, after its acknowledgement was answered: one line for what
 * was delivered, one per failure, never any payload text (outbox.md §16).
 */
export const reportBatch = (
  { logger, metrics }: Pick<BatchOptions, "logger" | "metrics">,
  held: Held,
  settlement: Settlement,
  stood: boolean,
): void => {
  const { kind } = held.queue.settings;
  const common = {
    worker: held.queue.worker,
    kind,
    partition_id: held.partitionId,
    processing_stage: "outbox",
  };
  if (!stood) {
    metrics.count("outbox_lease_lost", { kind });
    logger.warn({ ...common, messages: held.messages.length }, "outbox lease lost, the batch runs again");
    return;
  }
  const done = new Set(settlement.done);
  const dead = new Map(settlement.dead.map((item) => [item.id, item]));
  const elapsed = performance.now() - held.claimedAt;
  const delivered: string[] = [];
  held.messages.forEach((message, at) => {
    const verdict = held.verdicts[at];
    const ids = {
      ...common,
      message_id: message.messageId,
      tenant_id: message.tenantId,
      attempts: message.attempts,
    };
    if (done.has(message.id)) {
      metrics.observe("outbox_delivery_latency_ms", { kind }, message.ageMs + elapsed);
      const result = verdict?.kind === "already_terminal" ? "already_terminal" : "success";
      metrics.count("outbox_handler", { kind, result });
      delivered.push(message.messageId);
      return;
    }
    const given = dead.get(message.id);
    if (given !== undefined) {
      metrics.count("outbox_handler", { kind, result: "reject" });
      logger.error({ ...ids, reason: given.error }, "outbox message became a dead letter");
    } else if (verdict?.kind === "retry") {
      metrics.count("outbox_handler", { kind, result: "retry" });
      logger.warn({ ...ids, error: verdict.error }, "outbox message will be tried again");
    }
  });
  const acknowledged = delivered.length + dead.size;
  if (acknowledged > 0) metrics.count("outbox_acknowledged", { kind }, acknowledged);
  if (settlement.parked.length > 0) metrics.count("outbox_parked", { kind }, settlement.parked.length);
  if (delivered.length > 0) logger.info({ ...common, message_ids: delivered }, "outbox messages delivered");
};
