import type { Db } from "../db/pool.ts";
import { inTransaction } from "../db/tx.ts";
import { deleteFile, deleteStore } from "./store.ts";
import { findUnownedFiles, findUnownedStores } from "./sweep-store.ts";

export interface LocalSweepOptions {
  /** Longer than an upload may take (`egress.upload_timeout_secs`). */
  readonly graceSecs: number;
  /** At most so many of each kind in a run. */
  readonly limit: number;
}

/**
 * Removes files that no attachment names and stores that no chat has: their process died before it was recorded
 * (attachments.md §17). Returns how many. Safe in any number of processes at once.
 */
export const sweepLocalFiles = async (db: Db, options: LocalSweepOptions): Promise<number> => {
  const files = await findUnownedFiles(db, options.graceSecs, options.limit);
  for (const { id, tenantId, providerId } of files) {
    await inTransaction(db, (tx) => deleteFile(tx, tenantId, providerId, id));
  }
  const stores = await findUnownedStores(db, options.graceSecs, options.limit);
  for (const { id, tenantId, providerId } of stores) {
    await inTransaction(db, (tx) => deleteStore(tx, tenantId, providerId, id));
  }
  return files.length + stores.length;
};
