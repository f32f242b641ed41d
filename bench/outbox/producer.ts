import { setTimeout as sleep } from "node:timers/promises";
import { DirectConnection } from "../../packages/server/src/db/direct.ts";
import { inTransaction } from "../../packages/server/src/db/tx.ts";
import { openDb, partitions, registered, tenants, usageEvent } from "./queue.ts";

/**
 * A process that commits one message at a time at a steady pace: `node producer.ts URL COUNT PER_SECOND`. It
 * begins when it is told and tells when all are committed.
 */
const [url = "", count = "0", perSecond = "1"] = process.argv.slice(2);
process.once("disconnect", () => process.exit(1));
const db = openDb(url, 4);
const direct = new DirectConnection({ url });
await direct.start();
const outbox = await registered(db, "producer", { direct });

process.once("message", async () => {
  const begin = performance.now();
  for (let at = 0; at < Number(count); at += 1) {
    await sleep(Math.max(0, begin + (at * 1_000) / Number(perSecond) - performance.now()));
    await inTransaction(db, async (tx) => {
      const tenantId = tenants[at % partitions] ?? "";
      void outbox.enqueuer.enqueueUsageEvent(tx, usageEvent(tenantId, Math.floor(at / partitions)));
      tx.afterCommit(outbox.flush);
      tx.commitNow();
    });
  }
  process.send?.("done");
  await direct.stop();
  await db.close();
  process.disconnect();
});
process.send?.("ready");
