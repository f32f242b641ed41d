import type { Db } from "../db/pool.ts";
import { inTransaction } from "../db/tx.ts";
import type { OutboxEnqueuer } from "../outbox/enqueuer.ts";
import type { Logger } from "../telemetry/log.ts";
import { chatCleanupEvent, cleanupEvent } from "./cleanup-event.ts";
import { type DebtFilter, retryFailedCleanup, scanDebtAcrossTenants } from "./cleanup-scan-store.ts";
import type { FileKey } from "./cleanup-store.ts";
import { resetStoreAttempts, type StoreDebtRow, scanStoreDebtAcrossTenants } from "./cleanup-vector-store.ts";

export interface RetryDeps {
  readonly db: Db;
  readonly outbox: Pick<OutboxEnqueuer, "enqueueMany" | "flush">;
  readonly logger: Logger;
}

export interface RetryOptions {
  /** Of files, and of stores. */
  readonly limit: number;
  readonly actor: string;
}

export interface Retried {
  readonly files: number;
  readonly stores: number;
}

/**
 * Has given-up deletions tried anew: `failed` → `pending` without attempts, with their events, each row in
 * its own transaction (attachments.md §14). Each is logged with its actor before it is committed: nothing
 * must have been set in motion without a line that tells by whom.
 */
export const retryCleanups = async (
  deps: RetryDeps,
  filter: DebtFilter,
  options: RetryOptions,
): Promise<Retried> => {
  const retried = { files: 0, stores: 0 };
  for (const file of await scanDebtAcrossTenants(deps.db, filter, options.limit)) {
    if (await retryFile(deps, file, options)) retried.files += 1;
  }
  for (const store of await findStores(deps.db, filter, options.limit)) {
    if (await retryStore(deps, store, options)) retried.stores += 1;
  }
  return retried;
};

/** What a retry of this filter would try. */
export const countRetries = async (db: Db, filter: DebtFilter, limit: number): Promise<Retried> => ({
  files: (await scanDebtAcrossTenants(db, filter, limit)).length,
  stores: (await findStores(db, filter, limit)).length,
});

// One attachment names no store.
const findStores = async (db: Db, filter: DebtFilter, limit: number): Promise<StoreDebtRow[]> =>
  filter.attachmentId === undefined ? scanStoreDebtAcrossTenants(db, filter, limit) : [];

const retryFile = (
  { db, outbox, logger }: RetryDeps,
  file: FileKey,
  { actor }: RetryOptions,
): Promise<boolean> =>
  inTransaction(db, async (tx) => {
    const row = await retryFailedCleanup(tx, file);
    if (row === null) return false;
    await outbox.enqueueMany(tx, [cleanupEvent(row)]);
    const { id, chatId, tenantId } = file;
    logger.warn(
      { actor, attachment_id: id, chat_id: chatId, tenant_id: tenantId, processing_stage: "cleanup" },
      "cleanup of a file is tried again",
    );
    tx.afterCommit(outbox.flush);
    return true;
  });

const retryStore = (
  { db, outbox, logger }: RetryDeps,
  store: StoreDebtRow,
  { actor }: RetryOptions,
): Promise<boolean> =>
  inTransaction(db, async (tx) => {
    const { tenantId, chatId } = store;
    if (!(await resetStoreAttempts(tx, tenantId, chatId))) return false;
    await outbox.enqueueMany(tx, [chatCleanupEvent(store)]);
    logger.warn(
      { actor, chat_id: chatId, tenant_id: tenantId, processing_stage: "cleanup" },
      "cleanup of a vector store is tried again",
    );
    tx.afterCommit(outbox.flush);
    return true;
  });
