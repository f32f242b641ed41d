/**
 * A sink in one file: appends each usage event to a CSV file.
 *
 *   plugins:
 *     usage:
 *       type: module
 *       module: ./examples/csv-sink.mjs
 *       options: { path: ./usage.csv }
 *
 * The default export gets `options` and returns the sink. `publish` gets deliveries
 * `{ queue, idempotencyKey, messageId, tenantId, payload, trace }`, `payload` being the event as JSON, and
 * resolves once they would survive a crash. What it throws is tried again, in order, for as long as it
 * takes; an error with `kind: "permanent"` makes the event a dead letter instead. Events may come twice.
 */
import { open } from "node:fs/promises";

/** @param {{ path?: string }} options */
export default async function createCsvSink({ path }) {
  if (typeof path !== "string") throw new Error("options.path is missing");
  const file = await open(path, "a");
  return {
    grouping: "batch",
    async publish(deliveries) {
      const lines = deliveries.map(({ idempotencyKey, tenantId, payload }) => {
        const { timestamp, effective_model, actual_credits_micro } = JSON.parse(payload);
        return `${[timestamp, tenantId, JSON.stringify(effective_model), actual_credits_micro, idempotencyKey].join(",")}\n`;
      });
      await file.appendFile(lines.join(""));
      await file.datasync();
    },
    close: () => file.close(),
  };
}
