import { createFileSink } from "../../src/outbox/file-sink.ts";

/**
 * A process to be killed: `node file-sink-worker.ts PATH MAX_BYTES FIRST`. It publishes groups of numbered
 * events for ever and sends every number once its group has counted.
 */
const [path = "", maxBytes = "", first = ""] = process.argv.slice(2);
const sink = createFileSink({ path, maxBytes: Number(maxBytes) });
const never = new AbortController().signal;
const text = "x".repeat(3_000);

for (let number = Number(first); ; number += 20) {
  const numbers = Array.from({ length: 20 }, (_, at) => number + at);
  await sink.publish(
    numbers.map((one) => ({
      queue: "usage",
      idempotencyKey: `key-${one}`,
      messageId: `message-${one}`,
      tenantId: "tenant",
      payload: JSON.stringify({ number: one, text }),
      trace: null,
    })),
    never,
  );
  process.send?.(numbers);
}
