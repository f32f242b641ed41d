import { inTransaction, type Tx } from "../db/tx.ts";
import { cleanupEvent } from "./cleanup-event.ts";
import { scanForgottenAcrossTenants, touchForgottenCleanup } from "./cleanup-scan-store.ts";
import type { FileKey } from "./cleanup-store.ts";
import { idsOf, type StaleDeps } from "./stale.ts";

export interface ForgottenDeps extends StaleDeps {
  /** Whether an event that will clean this file up waits in the outbox. */
  readonly isOutstanding: (tx: Tx, file: FileKey) => Promise<boolean>;
}

/**
 * Writes the events of pending cleanups again that have none any more, of rows nobody touched for the stale
 * time (attachments.md §14): given up by the outbox, or lost by a restore. At most one batch per run; a row
 * that fails is left to the next one. Returns how many got their event.
 */
export const reviveForgottenCleanups = async (deps: ForgottenDeps, signal: AbortSignal): Promise<number> => {
  let revived = 0;
  for (const file of await scanForgottenAcrossTenants(deps.db, deps.limits)) {
    if (signal.aborted) break;
    try {
      if (await reviveOne(deps, file)) revived += 1;
    } catch (error) {
      deps.logger.error({ ...idsOf(file), err: error }, "forgotten cleanup not revived");
    }
  }
  return revived;
};

const reviveOne = (deps: ForgottenDeps, file: FileKey): Promise<boolean> =>
  inTransaction(deps.db, async (tx) => {
    // Touched also when it has its event: it must not keep those behind it out of every batch.
    const row = await touchForgottenCleanup(tx, file, deps.limits.staleSecs);
    if (row === null || (await deps.isOutstanding(tx, file))) return false;
    await deps.outbox.enqueueMany(tx, [cleanupEvent(row)]);
    tx.afterCommit(deps.outbox.flush);
    tx.afterCommit(() => deps.logger.warn(idsOf(file), "forgotten cleanup has its event again"));
    return true;
  });
