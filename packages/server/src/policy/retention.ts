import type { Db } from "../db/pool.ts";
import { inTransaction } from "../db/tx.ts";
import { deleteSnapshot, findExpiredSnapshots } from "./store.ts";

const batchSize = 200;

/**
 * Deletes policy versions fetched more than `days` ago, never a tenant's newest (data.md §4), until none is
 * left or the signal fires. Returns how many.
 */
export const deleteExpiredSnapshots = async (db: Db, days: number, signal: AbortSignal): Promise<number> => {
  let deleted = 0;
  while (!signal.aborted) {
    const batch = await findExpiredSnapshots(db, days, batchSize);
    for (const { tenantId, version } of batch) {
      if (signal.aborted) break;
      await inTransaction(db, (tx) => deleteSnapshot(tx, tenantId, version));
      deleted += 1;
    }
    if (batch.length < batchSize) break;
  }
  return deleted;
};
