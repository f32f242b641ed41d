import type { Db } from "../db/pool.ts";
import { inTransaction } from "../db/tx.ts";
import { deleteLogsOf, scanExpiredLogsAcrossTenants } from "./log-store.ts";

// A log of the longest turn has some thousands of events; a batch of them all is still a short transaction.
const turnsPerBatch = 50;

/**
 * Deletes the logs of turns that ended more than `retentionSecs` ago (turns.md §16.2), a batch of turns in
 * each transaction; the signal stops it between batches. Returns the number of events deleted.
 */
export const expireLogs = async (db: Db, retentionSecs: number, signal: AbortSignal): Promise<number> => {
  let events = 0;
  while (!signal.aborted) {
    const turns = await scanExpiredLogsAcrossTenants(db, retentionSecs, turnsPerBatch);
    if (turns.length === 0) break;
    events += await inTransaction(db, (tx) => deleteLogsOf(tx, turns));
  }
  return events;
};
