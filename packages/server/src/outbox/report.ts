import type { Logger } from "../telemetry/log.ts";
import type { Metrics } from "../telemetry/metrics.ts";
import type { Held } from "./held.ts";
import type { Settlement } from "./settle.ts";

interface ReportOptions {
  readonly logger: Logger;
  readonly metrics: Metrics;
}

// The log cuts longer lists.
const maxIdsPerLine = 50;

const commonFields = (held: Held) => ({
  worker: held.queue.worker,
  kind: held.queue.settings.kind,
  partition_id: held.partitionId,
  processing_stage: "outbox",
});

/** Counts and logs a batch whose lease was lost: nothing of it was acknowledged (outbox.md O7). */
export const reportLost = ({ logger, metrics }: ReportOptions, held: Held): void => {
  metrics.count("outbox_lease_lost", { kind: held.queue.settings.kind });
  logger.warn(
    { ...commonFields(held), messages: held.messages.length },
    "outbox lease lost, the batch runs again",
  );
};

/**
 * Counts and logs what became of a batch, after its acknowledgement was answered: lines with the ids
 * of what was delivered, one line per failure, never any payload text (outbox.md §16).
 */
export const reportBatch = ({ logger, metrics }: ReportOptions, held: Held, settlement: Settlement): void => {
  const { kind, policy } = held.queue.settings;
  const common = commonFields(held);
  const done = new Set(settlement.done);
  const dead = new Map(settlement.dead.map((item) => [item.id, item]));
  const elapsed = performance.now() - held.claimedAt;
  const delivered: string[] = [];
  const waiting = new Set<string>();
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
      return;
    }
    // Only the first of a key was tried; what lies behind it comes again anyway.
    const scope = policy === "block" ? "" : message.orderKey;
    if (verdict?.kind !== "retry" || waiting.has(scope)) return;
    waiting.add(scope);
    metrics.count("outbox_handler", { kind, result: "retry" });
    logger.warn({ ...ids, error: verdict.error }, "outbox message will be tried again");
  });
  const acknowledged = delivered.length + dead.size;
  if (acknowledged > 0) metrics.count("outbox_acknowledged", { kind }, acknowledged);
  if (waiting.size > 0 && policy === "park_key") metrics.count("outbox_parked", { kind }, waiting.size);
  for (let from = 0; from < delivered.length; from += maxIdsPerLine) {
    const ids = delivered.slice(from, from + maxIdsPerLine);
    logger.info({ ...common, message_ids: ids }, "outbox messages delivered");
  }
};
