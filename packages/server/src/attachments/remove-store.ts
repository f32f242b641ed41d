import type { Actor, UserId } from "../auth/actor.ts";
import type { Queryable, Statement, Timestamp } from "../db/pool.ts";
import type { Tx } from "../db/tx.ts";
import type { AttachmentKind } from "./mime.ts";

/** The SQL of deleting an attachment (attachments.md §11). */

/** What decides whether an attachment may be deleted. */
export interface AttachmentOwner {
  readonly uploadedByUserId: UserId;
  readonly deleted: boolean;
}

const columns = `uploaded_by_user_id as "uploadedByUserId", deleted_at is not null as deleted`;

const selectOwner: Statement = {
  name: "attachment_select_owner",
  text: `
    select ${columns}
    from attachments
    where id = $1
      and tenant_id = $2
      and chat_id = $3`,
};

/** The row in tenant and chat, a deleted one too. */
export const findAttachmentOwner = async (
  db: Queryable,
  actor: Actor,
  chatId: string,
  id: string,
): Promise<AttachmentOwner | null> =>
  (await db.query<AttachmentOwner>(selectOwner, [id, actor.tenantId, chatId])).rows[0] ?? null;

const lockOwner: Statement = {
  name: "attachment_lock_owner",
  text: `
    select ${columns}
    from attachments
    where id = $1
      and tenant_id = $2
      and chat_id = $3
    for update`,
};

/** As `findAttachmentOwner`, and keeps links and other deletes away until the end of the transaction. */
export const lockAttachmentOwner = async (
  tx: Tx,
  actor: Actor,
  chatId: string,
  id: string,
): Promise<AttachmentOwner | null> =>
  (await tx.query<AttachmentOwner>(lockOwner, [id, actor.tenantId, chatId])).rows[0] ?? null;

// What a failed upload owes is owed already, and what was cleaned up stays so.
const softDelete: Statement = {
  name: "attachment_soft_delete",
  text: `
    update attachments a
    set
      deleted_at = now(),
      cleanup_status = coalesce(a.cleanup_status, 'pending'),
      cleanup_updated_at = now(),
      updated_at = now()
    where a.id = $1
      and a.tenant_id = $2
      and a.chat_id = $3
      and a.deleted_at is null
      and not exists (
        select 1
        from message_attachments l
        where l.attachment_id = a.id
          and l.chat_id = a.chat_id
          and l.tenant_id = a.tenant_id
      )
    returning
      a.provider_file_id as "providerFileId", a.storage_backend as "storageBackend",
      a.attachment_kind as kind, a.for_file_search and a.status = 'ready' as indexed,
      a.deleted_at as "deletedAt"`,
};

export interface DeletedAttachment {
  readonly providerFileId: string | null;
  readonly storageBackend: string;
  readonly kind: AttachmentKind;
  /** It counted among the indexed documents of its store. */
  readonly indexed: boolean;
  readonly deletedAt: Timestamp;
}

/**
 * Soft-deletes a locked attachment no message refers to, those of deleted messages included; null when
 * there is such a message, or the attachment is deleted already.
 */
export const softDeleteAttachment = async (
  tx: Tx,
  actor: Actor,
  chatId: string,
  id: string,
): Promise<DeletedAttachment | null> =>
  (await tx.query<DeletedAttachment>(softDelete, [id, actor.tenantId, chatId])).rows[0] ?? null;
