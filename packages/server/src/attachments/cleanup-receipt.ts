import { erasureAuditEvent } from "../audit/erasure.ts";
import { asTenantId } from "../auth/actor.ts";
import { recordErasure } from "../chats/erasure-store.ts";
import { inTransaction } from "../db/tx.ts";
import type { OutboxEnqueuer } from "../outbox/enqueuer.ts";
import type { ChatCleanupEvent } from "../outbox/events.ts";
import type { CleanupDeps } from "./cleanup-file.ts";
import { countChatFiles } from "./cleanup-store.ts";
import { deleteStoreRow, findStoreToDelete, type StoreToDelete } from "./cleanup-vector-store.ts";

export interface EraseDeps extends CleanupDeps {
  readonly outbox: Pick<OutboxEnqueuer, "enqueueAuditEvent" | "flush">;
  /** `cleanup_worker.stale_in_progress_timeout_secs`: an upload untouched for so long is dead. */
  readonly staleSecs: number;
  /** `outbox.retry_base_ms`, `outbox.retry_max_ms`. */
  readonly retryDelay: { readonly baseMs: number; readonly maxMs: number };
}

/**
 * `erased`: providers hold nothing of the chat any more. `debt`: they hold files that were given up, which
 * an operator may have tried again. Otherwise why it is not over.
 */
export type Finished =
  | "erased"
  | "debt"
  | "the vector store is another one now"
  | "an upload may be under way";

/**
 * The last step of a chat's cleanup, with no file pending and its store, if any, deleted: removes the
 * store's row, which is the completion marker, and with everything gone writes the receipt, once.
 */
export const finishCleanup = async (
  deps: EraseDeps,
  event: ChatCleanupEvent,
  store: StoreToDelete | null,
): Promise<Finished> => {
  const tenantId = asTenantId(event.tenant_id);
  const { chat_id: chatId } = event;
  return inTransaction(deps.db, async (tx) => {
    const removed = store !== null && (await deleteStoreRow(tx, tenantId, chatId, store.vectorStoreId));
    const files = await countChatFiles(tx, tenantId, chatId, deps.staleSecs);
    const hasStore = (await findStoreToDelete(tx, tenantId, chatId)) !== null;
    const complete = files.pending + files.failed + files.uploading === 0 && !hasStore;
    const vectorStores = removed && store.vectorStoreId !== null ? 1 : 0;
    const erasure = await recordErasure(tx, tenantId, chatId, { vectorStores, complete });
    if (removed) tx.afterCommit(() => observeStore(deps, event, vectorStores));
    if (complete && erasure !== null) {
      await deps.outbox.enqueueAuditEvent(
        tx,
        erasureAuditEvent({
          tenantId,
          chatId,
          ...erasure,
          requestId: event.system_request_id,
          reason: event.reason,
          files: files.deleted,
        }),
      );
      tx.afterCommit(deps.outbox.flush);
    }
    if (hasStore) return "the vector store is another one now";
    if (files.pending + files.uploading > 0) return "an upload may be under way";
    return files.failed > 0 ? "debt" : "erased";
  });
};

const observeStore = (
  { metrics }: CleanupDeps,
  { chat_deleted_at: deletedAt }: ChatCleanupEvent,
  stores: number,
): void => {
  if (stores === 0) return;
  metrics.count("cleanup_completed", { resource_type: "vector_store" });
  const latencyMs = Math.max(0, Date.now() - Date.parse(deletedAt));
  metrics.observe("cleanup_latency_ms", { op: "vector_store" }, latencyMs);
};
