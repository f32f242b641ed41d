import { appendFileSync } from "node:fs";
import { Db } from "../../src/db/pool.ts";
import { inTransaction } from "../../src/db/tx.ts";
import { done } from "../../src/outbox/message.ts";
import { crashLease, numbered, numberOf, registeredOutbox, serving } from "./support.ts";

/**
 * A process to be killed: `node crash-worker.ts URL FILE MODE [TENANT]`. It writes one line per message
 * it takes on to FILE, before it answers. Mode `hang` never answers; `deliver` does; `produce` enqueues
 * for TENANT and never commits.
 */
const [url = "", file = "", mode = "", tenantId = ""] = process.argv.slice(2);
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
  queues: { override: { usage: crashLease } },
});
const forever = (): Promise<never> => new Promise(() => {});

if (mode === "produce") {
  await inTransaction(db, async (tx) => {
    await outbox.enqueuer.enqueueUsageEvent(tx, numbered(tenantId, 1));
    process.send?.("ready");
    await forever();
  });
} else {
  await outbox.start(
    serving({
      usage: async (messages) => {
        for (const message of messages) {
          const { messageId, attempts, tenantId: tenant } = message;
          appendFileSync(
            file,
            `${JSON.stringify({ tenant, number: numberOf(message), messageId, attempts })}\n`,
          );
        }
        if (mode === "hang") await forever();
        return messages.map(() => done);
      },
    }),
  );
  process.send?.("ready");
}
