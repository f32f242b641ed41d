import type { Db } from "../db/pool.ts";
import { inTransaction } from "../db/tx.ts";
import { deleteFile, findUnownedFiles } from "./store.ts";

export interface LocalSweepOptions {
  /** Longer than an upload may take (`egress.upload_timeout_secs`). */
  readonly graceSecs: number;
  /** At most so many in a run. */
  readonly limit: number;
}

/**
 * Removes files that no attachment names: their process died before the upload was recorded
 * (attachments.md §17). Returns how many. Safe in any number of processes at once.
 */
export const sweepLocalFiles = async (db: Db, options: LocalSweepOptions): Promise<number> => {
  const files = await findUnownedFiles(db, options.graceSecs, options.limit);
  for (const { id, tenantId, providerId } of files) {
    await inTransaction(db, (tx) => deleteFile(tx, tenantId, providerId, id));
  }
  return files.length;
};
