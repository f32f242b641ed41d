import type { Logger } from "../telemetry/log.ts";
import type { Sink } from "./sink.ts";

/**
 * Publishes events as structured log lines (policy.md §13). The events hold no message text unless
 * `audit.include_content` says so, and that text is redacted before it is enqueued.
 */
export const createLogSink = (logger: Logger, level: "info" | "debug" = "info"): Sink => ({
  grouping: "batch",
  publish: async (deliveries) => {
    for (const { queue, payload, idempotencyKey, messageId } of deliveries) {
      const fields = { idempotency_key: idempotencyKey, message_id: messageId, event: JSON.parse(payload) };
      logger[level](fields, `${queue} event`);
    }
  },
  close: async () => {},
});
