import type { Db } from "../db/pool.ts";
import { inTransaction } from "../db/tx.ts";
import type { OutboxEnqueuer } from "../outbox/enqueuer.ts";
import type { Logger } from "../telemetry/log.ts";
import { cleanupEvent } from "./cleanup-event.ts";
import { failStaleUpload, type ScanLimits, scanStaleUploadsAcrossTenants } from "./cleanup-scan-store.ts";
import type { FileKey } from "./cleanup-store.ts";

export interface StaleDeps {
  readonly db: Db;
  readonly outbox: Pick<OutboxEnqueuer, "enqueueMany" | "flush">;
  readonly logger: Logger;
  /** `cleanup_worker.stale_in_progress_timeout_secs`, `cleanup_worker.batch_size`. */
  readonly limits: ScanLimits;
}

const maxBatches = 100;

/**
 * Ends uploads whose process died (attachments.md §14): `failed`, `upload_interrupted`, and a file that is
 * known goes to cleanup in the same transaction. A row that fails is left to the next run, the signal stops
 * this one between rows. Returns how many it ended.
 */
export const failStaleUploads = async (deps: StaleDeps, signal: AbortSignal): Promise<number> => {
  let ended = 0;
  for (let batch = 0; batch < maxBatches && !signal.aborted; batch += 1) {
    const found = await scanStaleUploadsAcrossTenants(deps.db, deps.limits);
    let failures = 0;
    for (const file of found) {
      if (signal.aborted) break;
      try {
        if (await failOne(deps, file)) ended += 1;
      } catch (error) {
        failures += 1;
        deps.logger.error({ ...idsOf(file), err: error }, "interrupted upload not ended");
      }
    }
    // Those that fail would be found again, and in a full batch of them nothing else.
    if (found.length < deps.limits.batchSize || failures > 0) break;
  }
  return ended;
};

const failOne = (deps: StaleDeps, file: FileKey): Promise<boolean> =>
  inTransaction(deps.db, async (tx) => {
    const row = await failStaleUpload(tx, file, deps.limits.staleSecs);
    if (row === null) return false;
    // With its chat deleted, the chat's event has it.
    const events = row.owed === true && row.chatDeletedAt === null ? [cleanupEvent(row)] : [];
    if (events.length > 0) {
      await deps.outbox.enqueueMany(tx, events);
      tx.afterCommit(deps.outbox.flush);
    }
    tx.afterCommit(() =>
      deps.logger.warn(
        { ...idsOf(file), file_stored: row.providerFileId !== null },
        "interrupted upload ended",
      ),
    );
    return true;
  });

export const idsOf = ({ id, chatId, tenantId }: FileKey): object => ({
  attachment_id: id,
  chat_id: chatId,
  tenant_id: tenantId,
  processing_stage: "cleanup",
});
