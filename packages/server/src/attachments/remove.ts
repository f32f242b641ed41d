import type { Actor } from "../auth/actor.ts";
import type { Db } from "../db/pool.ts";
import { inTransaction, type Tx } from "../db/tx.ts";
import { AppError } from "../errors.ts";
import type { OutboxEnqueuer } from "../outbox/enqueuer.ts";
import { wireMillis } from "../outbox/wire.ts";
import { attachmentNotFound } from "./attachment.ts";
import {
  type DeletedAttachment,
  findAttachmentOwner,
  lockAttachmentOwner,
  softDeleteAttachment,
} from "./remove-store.ts";
import { countIndexedFiles, findStore } from "./vector-store-store.ts";

export interface RemoveAttachmentDeps {
  readonly db: Db;
  readonly outbox: Pick<OutboxEnqueuer, "enqueueAttachmentCleanup" | "flush">;
}

/**
 * Soft-deletes an attachment of an already loaded chat, in any status; its cleanup event commits with it
 * (attachments.md §11). Repeating it does nothing. Throws 404, 403 for another uploader's, and 409
 * `attachment_locked` when a message refers to it.
 */
export const removeAttachment = async (
  deps: RemoveAttachmentDeps,
  actor: Actor,
  chatId: string,
  id: string,
): Promise<void> => {
  const found = await findAttachmentOwner(deps.db, actor, chatId, id);
  if (found === null) throw attachmentNotFound();
  if (found.uploadedByUserId !== actor.userId) throw new AppError("forbidden");
  if (found.deleted) return;
  await inTransaction(deps.db, async (tx) => {
    const locked = await lockAttachmentOwner(tx, actor, chatId, id);
    if (locked === null) throw attachmentNotFound();
    // A statement of its own behind the lock: its snapshot has every link that was there before (§11).
    const deleted = await softDeleteAttachment(tx, actor, chatId, id);
    if (deleted !== null) return settle(deps, tx, actor, chatId, id, deleted);
    if (!locked.deleted) {
      throw new AppError("attachment_locked", { detail: "A message refers to this attachment." });
    }
  });
};

const settle = async (
  { outbox }: RemoveAttachmentDeps,
  tx: Tx,
  { tenantId }: Actor,
  chatId: string,
  id: string,
  deleted: DeletedAttachment,
): Promise<void> => {
  const store = await findStore(tx, { tenantId, chatId });
  if (deleted.indexed) await countIndexedFiles(tx, { tenantId, chatId }, -1);
  await outbox.enqueueAttachmentCleanup(tx, {
    event_type: "attachment_deleted",
    tenant_id: tenantId,
    chat_id: chatId,
    attachment_id: id,
    provider_file_id: deleted.providerFileId,
    vector_store_id: deleted.kind === "document" ? (store?.vectorStoreId ?? null) : null,
    storage_backend: deleted.storageBackend,
    attachment_kind: deleted.kind,
    deleted_at: wireMillis(deleted.deletedAt),
  });
  tx.afterCommit(outbox.flush);
};
