import { appendFileSync } from "node:fs";
import { Db } from "../../src/db/pool.ts";
import { numberOf, registeredOutbox, serving } from "./support.ts";

/**
 * A worker process to be killed: `node crash-worker.ts URL FILE MODE`. Writes one line per message it
 * takes on to FILE, before it answers. Mode `hang` never answers; `deliver` does.
 */
const [url = "", file = "", mode = "deliver"] = process.argv.slice(2);
const db = new Db({
  url,
  maxConnections: 2,
  acquireTimeoutMs: 5_000,
  statementTimeoutMs: 15_000,
  lockTimeoutMs: 5_000,
  idleInTransactionTimeoutMs: 30_000,
});
const outbox = await registeredOutbox(db, {
  instanceId: `child-${process.pid}`,
  queues: { override: { usage: { leaseMs: 1_000, headroomMs: 200 } } },
});
await outbox.start(
  serving({
    usage: async (messages) => {
      for (const message of messages) {
        appendFileSync(file, `${message.tenantId} ${numberOf(message)} ${message.messageId}\n`);
      }
      if (mode === "hang") await new Promise(() => {});
      return messages.map(() => ({ kind: "done" }));
    },
  }),
);
process.send?.("started");
