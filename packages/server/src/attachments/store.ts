import type { Actor, TenantId } from "../auth/actor.ts";
import type { Queryable, Statement } from "../db/pool.ts";
import type { Tx } from "../db/tx.ts";

/** An attachment as a send sees it. */
export interface NamedAttachment {
  readonly id: string;
  readonly kind: "document" | "image";
  readonly status: string;
  readonly deleted: boolean;
  readonly uploadedByUserId: string;
  readonly providerFileId: string | null;
  readonly storageBackend: string;
}

const namedColumns = `
      id, attachment_kind as kind, status, deleted_at is not null as deleted,
      uploaded_by_user_id as "uploadedByUserId", provider_file_id as "providerFileId",
      storage_backend as "storageBackend"`;

const selectNamed: Statement = {
  name: "attachments_named",
  text: `
    select ${namedColumns}
    from attachments
    where chat_id = $1
      and tenant_id = $2
      and id = any($3::uuid[])`,
};

/** The named attachments of an already loaded chat, unlocked: for counting images before the transaction. */
export const findNamedAttachments = async (
  db: Queryable,
  actor: Actor,
  chatId: string,
  ids: readonly string[],
): Promise<NamedAttachment[]> =>
  (await db.query<NamedAttachment>(selectNamed, [chatId, actor.tenantId, ids])).rows;

const lockNamed: Statement = {
  name: "attachments_lock_named",
  text: `
    select ${namedColumns}
    from attachments
    where chat_id = $1
      and tenant_id = $2
      and id = any($3::uuid[])
    order by id
    for share`,
};

/** Locks the named attachments in id order (attachments.md §10): a concurrent delete waits or is seen. */
export const lockNamedAttachments = async (
  tx: Tx,
  actor: Actor,
  chatId: string,
  ids: readonly string[],
): Promise<NamedAttachment[]> =>
  (await tx.query<NamedAttachment>(lockNamed, [chatId, actor.tenantId, ids])).rows;

const selectLive: Statement = {
  name: "attachments_live",
  text: `
    select id
    from attachments
    where chat_id = $1
      and tenant_id = $2
      and id = any($3::uuid[])
      and deleted_at is null`,
};

/** Which of these attachments of an already loaded chat still exist: only they may be cited on replay. */
export const findLiveAttachmentIds = async (
  db: Queryable,
  tenantId: TenantId,
  chatId: string,
  ids: readonly string[],
): Promise<Set<string>> =>
  new Set((await db.query<{ id: string }>(selectLive, [chatId, tenantId, ids])).rows.map((row) => row.id));

const markForCleanup: Statement = {
  name: "attachments_mark_chat_cleanup",
  text: `
    update attachments
    set
      cleanup_status = 'pending',
      cleanup_updated_at = now(),
      updated_at = now()
    where chat_id = $1
      and tenant_id = $2
      and deleted_at is null
      and cleanup_status is null`,
};

/** Chat deletion: every live attachment becomes pending cleanup; `deleted_at` stays (attachments.md §11). */
export const markChatAttachmentsForCleanup = async (
  tx: Tx,
  tenantId: TenantId,
  chatId: string,
): Promise<void> => {
  await tx.query(markForCleanup, [chatId, tenantId]);
};

export interface AttachmentSummaryRow {
  readonly messageId: string;
  readonly attachmentId: string;
  readonly kind: "document" | "image";
  readonly filename: string;
  readonly status: "pending" | "uploaded" | "ready" | "failed";
  readonly thumbnail: Buffer | null;
  readonly thumbnailWidth: number | null;
  readonly thumbnailHeight: number | null;
}

/** Live attachments linked to some messages of a chat, in the order sent. */
const liveOfMessages = (name: string, columns: string): Statement => ({
  name,
  text: `
    select
      ${columns}
    from message_attachments l
    join attachments a on a.id = l.attachment_id and a.chat_id = l.chat_id
    where l.chat_id = $1
      and l.tenant_id = $2
      and a.tenant_id = $2
      and l.message_id = any($3::uuid[])
      and a.deleted_at is null
    order by l.position, l.created_at, l.attachment_id`,
});

const nameColumns =
  'l.message_id as "messageId", a.id as "attachmentId", a.attachment_kind as kind, a.filename, a.status';

const selectOfMessages = liveOfMessages(
  "attachments_of_messages",
  `${nameColumns},
      a.img_thumbnail as thumbnail, a.img_thumbnail_width as "thumbnailWidth",
      a.img_thumbnail_height as "thumbnailHeight"`,
);

/** Live attachments linked to the messages of one page, in the order sent; one query per page. */
export const findAttachmentsOfMessages = async (
  db: Queryable,
  tenantId: TenantId,
  chatId: string,
  messageIds: readonly string[],
): Promise<AttachmentSummaryRow[]> =>
  messageIds.length === 0
    ? []
    : (await db.query<AttachmentSummaryRow>(selectOfMessages, [chatId, tenantId, messageIds])).rows;

const linkStatement: Statement = {
  name: "attachments_link",
  text: `
    insert into message_attachments (tenant_id, chat_id, message_id, attachment_id, position)
    select $1, $2, $3, ids.id, ids.position - 1
    from unnest($4::uuid[]) with ordinality as ids (id, position)`,
};

/** Links attachments to a message of the same chat in the order sent (attachments.md §10). */
export const linkAttachments = (
  tx: Tx,
  link: { tenantId: TenantId; chatId: string; messageId: string; attachmentIds: readonly string[] },
): Promise<unknown> =>
  tx.query(linkStatement, [link.tenantId, link.chatId, link.messageId, link.attachmentIds]);

export type AttachmentNameRow = Omit<
  AttachmentSummaryRow,
  "thumbnail" | "thumbnailWidth" | "thumbnailHeight"
>;

const selectNamesOfMessages = liveOfMessages("attachments_names_of_messages", nameColumns);

/** As `findAttachmentsOfMessages`, without the thumbnails. */
export const findAttachmentNamesOfMessages = async (
  db: Queryable,
  tenantId: TenantId,
  chatId: string,
  messageIds: readonly string[],
): Promise<AttachmentNameRow[]> =>
  messageIds.length === 0
    ? []
    : (await db.query<AttachmentNameRow>(selectNamesOfMessages, [chatId, tenantId, messageIds])).rows;

/** The live attachments of one message of an already loaded chat, in the order sent: what a retry copies. */
export const findLinkedAttachmentIds = async (
  db: Queryable,
  tenantId: TenantId,
  chatId: string,
  messageId: string,
): Promise<string[]> =>
  (await findAttachmentNamesOfMessages(db, tenantId, chatId, [messageId])).map((row) => row.attachmentId);
