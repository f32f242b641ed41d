import type { Logger } from "../telemetry/log.ts";
import type { Sink } from "./sink.ts";

/**
 * Publishes events as structured log lines (policy.md §13). Text of users and models never reaches a log
 * line (ops.md §6), so with `audit.include_content` another sink is needed to keep it. The lines are the
 * delivery: they are written whatever `log.level` is.
 */
export const createLogSink = (logger: Logger, level: "info" | "debug" = "info"): Sink => {
  const lines = logger.child({}, level);
  return {
    grouping: "batch",
    publish: async (deliveries) => {
      for (const { queue, payload, idempotencyKey, messageId } of deliveries) {
        const { prompt: _, response: __, ...event } = JSON.parse(payload);
        lines[level]({ idempotency_key: idempotencyKey, message_id: messageId, event }, `${queue} event`);
      }
    },
    close: async () => {},
  };
};
