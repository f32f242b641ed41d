import type { Actor, TenantId } from "../auth/actor.ts";
import type { Queryable, Statement, Timestamp } from "../db/pool.ts";
import type { Tx } from "../db/tx.ts";
import type { Attachment, Thumbnail, UploadErrorCode } from "./attachment.ts";
import { ofLiveChat } from "./live-chat.ts";
import type { FileType } from "./mime.ts";

/** All SQL of `attachments` that an upload needs. Every arrow of attachments.md §8 is one conditional update. */

/** What clients may see of a row. */
export const attachmentColumns = `
      a.id, a.filename, a.content_type as "contentType", a.size_bytes as "sizeBytes", a.status,
      a.attachment_kind as kind, a.error_code as "errorCode", a.doc_summary as "docSummary",
      a.summary_updated_at as "summaryUpdatedAt", a.img_thumbnail as thumbnail,
      a.img_thumbnail_width as "thumbnailWidth", a.img_thumbnail_height as "thumbnailHeight",
      a.created_at as "createdAt"`;

/** A row as one upload, or the delete of it, addresses it. */
export interface AttachmentKey {
  readonly tenantId: TenantId;
  readonly chatId: string;
  readonly id: string;
}

const key = ({ id, tenantId, chatId }: AttachmentKey): unknown[] => [id, tenantId, chatId];

/** Neither deleted, nor of a chat that is: deleting a chat sets `cleanup_status`, but of rows it can see. */
const isLive = `a.deleted_at is null
      and a.cleanup_status is null
      and ${ofLiveChat("a")}`;

const selectTotals: Statement = {
  name: "attachments_totals",
  text: `
    select
      count(*) filter (where attachment_kind = 'document')::int as documents,
      coalesce(sum(size_bytes), 0)::bigint as bytes
    from attachments
    where tenant_id = $1
      and chat_id = $2
      and deleted_at is null
      and status <> 'failed'`,
};

export interface ChatTotals {
  readonly documents: number;
  readonly bytes: bigint;
}

/** What the files of a chat take: neither the deleted nor the failed ones (attachments.md §7). */
export const findTotals = async (db: Queryable, tenantId: TenantId, chatId: string): Promise<ChatTotals> =>
  (await db.query<ChatTotals>(selectTotals, [tenantId, chatId])).rows[0] ?? { documents: 0, bytes: 0n };

const insertPending: Statement = {
  name: "attachments_insert_pending",
  text: `
    insert into attachments as a (
      id, tenant_id, chat_id, uploaded_by_user_id, filename, content_type, size_bytes, storage_backend,
      provider_id, status, attachment_kind, for_file_search, for_code_interpreter
    )
    values ($1, $2, $3, $4, $5, $6, $7, $8, $9, 'pending', $10, $11, $12)`,
};

export interface NewAttachment extends AttachmentKey {
  readonly filename: string;
  readonly type: FileType;
  /** 0 where the client did not say. */
  readonly sizeHint: number;
  readonly storageBackend: string;
  readonly providerId: string;
}

/** Reserves the row, in the transaction that holds its chat. */
export const insertPendingAttachment = (tx: Tx, actor: Actor, row: NewAttachment): Promise<unknown> =>
  tx.query(insertPending, [
    row.id,
    actor.tenantId,
    row.chatId,
    actor.userId,
    row.filename,
    row.type.mime,
    row.sizeHint,
    row.storageBackend,
    row.providerId,
    row.type.kind,
    row.type.purpose === "file_search",
    row.type.purpose === "code_interpreter",
  ]);

const markUploaded: Statement = {
  name: "attachments_mark_uploaded",
  text: `
    update attachments a
    set
      status = 'uploaded',
      provider_file_id = $4,
      size_bytes = $5,
      updated_at = now()
    where a.id = $1
      and a.tenant_id = $2
      and a.chat_id = $3
      and ${isLive}
      and a.status = 'pending'
    returning a.created_at as "createdAt"`,
};

/** `pending` → `uploaded`; when the row was made, or null when it was lost to a delete. */
export const markAttachmentUploaded = async (
  tx: Tx,
  row: AttachmentKey,
  file: { readonly providerFileId: string; readonly bytes: number },
): Promise<Timestamp | null> =>
  (await tx.query<{ createdAt: Timestamp }>(markUploaded, [...key(row), file.providerFileId, file.bytes]))
    .rows[0]?.createdAt ?? null;

const markReady: Statement = {
  name: "attachments_mark_ready",
  text: `
    update attachments a
    set
      status = 'ready',
      img_thumbnail = $4,
      img_thumbnail_width = $5,
      img_thumbnail_height = $6,
      updated_at = now()
    where a.id = $1
      and a.tenant_id = $2
      and a.chat_id = $3
      and ${isLive}
      and a.status = 'uploaded'
    returning ${attachmentColumns}`,
};

/** `uploaded` → `ready`; null when the row was lost to a delete. */
export const markAttachmentReady = async (
  tx: Tx,
  row: AttachmentKey,
  thumbnail: Thumbnail | null,
): Promise<Attachment | null> =>
  (
    await tx.query<Attachment>(markReady, [
      ...key(row),
      thumbnail?.bytes ?? null,
      thumbnail?.width ?? null,
      thumbnail?.height ?? null,
    ])
  ).rows[0] ?? null;

const markFailed: Statement = {
  name: "attachments_mark_failed",
  text: `
    update attachments a
    set
      status = 'failed',
      error_code = $4,
      provider_file_id = coalesce(a.provider_file_id, $5),
      cleanup_status = case when coalesce(a.provider_file_id, $5) is not null then 'pending' end,
      cleanup_updated_at = case when coalesce(a.provider_file_id, $5) is not null then now() end,
      updated_at = now()
    where a.id = $1
      and a.tenant_id = $2
      and a.chat_id = $3
      and ${isLive}
      and a.status in ('pending', 'uploaded')
    returning a.updated_at as "failedAt"`,
};

/**
 * Any status but a terminal one → `failed`, its provider file due for cleanup; when, or null when the row
 * was lost to a delete or already failed.
 */
export const markAttachmentFailed = async (
  tx: Tx,
  row: AttachmentKey,
  failure: { readonly errorCode: UploadErrorCode; readonly providerFileId: string | null },
): Promise<Timestamp | null> =>
  (
    await tx.query<{ failedAt: Timestamp }>(markFailed, [
      ...key(row),
      failure.errorCode,
      failure.providerFileId,
    ])
  ).rows[0]?.failedAt ?? null;

const keepLostFile: Statement = {
  name: "attachments_keep_lost_file",
  text: `
    update attachments a
    set
      provider_file_id = $4,
      cleanup_status = 'pending',
      cleanup_updated_at = now(),
      updated_at = now()
    where a.id = $1
      and a.tenant_id = $2
      and a.chat_id = $3
      and a.provider_file_id is null
    returning a.updated_at as "lostAt"`,
};

/**
 * Makes the file of a row that was lost before it knew its file due for cleanup, whatever was cleaned up of
 * it before; when, or null when the row knows its file: then whoever took the row has it cleaned up.
 */
export const keepLostProviderFile = async (
  tx: Tx,
  row: AttachmentKey,
  providerFileId: string,
): Promise<Timestamp | null> =>
  (await tx.query<{ lostAt: Timestamp }>(keepLostFile, [...key(row), providerFileId])).rows[0]?.lostAt ??
  null;

const select: Statement = {
  name: "attachment_select",
  text: `
    select ${attachmentColumns}
    from attachments a
    where a.id = $1
      and a.tenant_id = $2
      and a.chat_id = $3
      and a.deleted_at is null`,
};

/** A live attachment of an already loaded chat. */
export const findAttachment = async (db: Queryable, row: AttachmentKey): Promise<Attachment | null> =>
  (await db.query<Attachment>(select, key(row))).rows[0] ?? null;
