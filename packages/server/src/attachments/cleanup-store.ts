import type { TenantId } from "../auth/actor.ts";
import type { Db, Queryable, Statement } from "../db/pool.ts";

/** All SQL of `attachments` about removing their files from providers (attachments.md §14). */

/** A row as cleanup addresses it. */
export interface FileKey {
  readonly tenantId: TenantId;
  readonly chatId: string;
  readonly id: string;
}

export const fileValues = ({ id, tenantId, chatId }: FileKey): unknown[] => [id, tenantId, chatId];

/** A file that is to be deleted at its provider. */
export interface PendingFile {
  readonly id: string;
  readonly providerId: string;
  /** Null: the upload did not get that far. */
  readonly providerFileId: string | null;
  /** The chat's store, of a document that may be in it. */
  readonly vectorStoreId: string | null;
}

const pendingColumns = `
      a.id, a.provider_id as "providerId", a.provider_file_id as "providerFileId",
      (
        select s.vector_store_id
        from chat_vector_stores s
        where s.tenant_id = a.tenant_id
          and s.chat_id = a.chat_id
          and a.for_file_search
      ) as "vectorStoreId"`;

const selectPending: Statement = {
  name: "attachment_pending_cleanup",
  text: `
    select ${pendingColumns}
    from attachments a
    where a.id = $1
      and a.tenant_id = $2
      and a.chat_id = $3
      and a.cleanup_status = 'pending'`,
};

/** The file, while its cleanup is pending; null for a stale redelivery. */
export const findPendingFile = async (db: Queryable, file: FileKey): Promise<PendingFile | null> =>
  (await db.query<PendingFile>(selectPending, fileValues(file))).rows[0] ?? null;

// attachments_chat_cleanup_idx; deleted one by one or with their chat, all of them.
const selectPendingOfChat: Statement = {
  name: "attachments_pending_cleanup_of_chat",
  text: `
    select ${pendingColumns}
    from attachments a
    where a.chat_id = $1
      and a.tenant_id = $2
      and a.cleanup_status = 'pending'
    order by a.cleanup_attempts, a.id
    limit $3`,
};

/** Files of a chat whose cleanup is pending, those that failed least first. */
export const findPendingFiles = async (
  db: Queryable,
  tenantId: TenantId,
  chatId: string,
  limit: number,
): Promise<PendingFile[]> =>
  (await db.query<PendingFile>(selectPendingOfChat, [chatId, tenantId, limit])).rows;

// An upload that lost its row may have stored its file since it was read: then the file is still there.
const markDone: Statement = {
  name: "attachment_cleanup_done",
  text: `
    update attachments a
    set
      cleanup_status = 'done',
      cleanup_updated_at = now(),
      updated_at = now()
    where a.id = $1
      and a.tenant_id = $2
      and a.chat_id = $3
      and a.cleanup_status = 'pending'
      and a.provider_file_id is not distinct from $4
    returning extract(epoch from now() - coalesce(
      a.deleted_at,
      (select c.deleted_at from chats c where c.id = a.chat_id and c.tenant_id = a.tenant_id),
      a.created_at
    ))::float8 * 1000 as "sinceDeletionMs"`,
};

/** `pending` → `done`; milliseconds since its deletion, or null when it was not pending (with this file) any more. */
export const markCleanupDone = async (
  db: Db,
  file: FileKey,
  providerFileId: string | null,
): Promise<number | null> =>
  (await db.query<{ sinceDeletionMs: number }>(markDone, [...fileValues(file), providerFileId])).rows[0]
    ?.sinceDeletionMs ?? null;

/** What became of a row by a failed attempt (outbox.md §10). */
export type CleanupOutcome = "StillPending" | "TerminalFailure" | "AlreadyTerminal";

const recordAttempt: Statement = {
  name: "attachment_cleanup_attempt",
  text: `
    update attachments a
    set
      cleanup_attempts = a.cleanup_attempts + 1,
      cleanup_status = case when a.cleanup_attempts + 1 >= $5::int then 'failed' else 'pending' end,
      last_cleanup_error = left($4, 1000),
      cleanup_updated_at = now(),
      updated_at = now()
    where a.id = $1
      and a.tenant_id = $2
      and a.chat_id = $3
      and a.cleanup_status = 'pending'
    returning a.cleanup_status as status`,
};

/** Counts a failed attempt; from the `maxAttempts`-th on the row is `failed`. `error` is sanitised. */
export const recordCleanupAttempt = async (
  db: Db,
  file: FileKey,
  error: string,
  maxAttempts: number,
): Promise<CleanupOutcome> => {
  const values = [...fileValues(file), error, maxAttempts];
  const [row] = (await db.query<{ status: string }>(recordAttempt, values)).rows;
  if (row === undefined) return "AlreadyTerminal";
  return row.status === "failed" ? "TerminalFailure" : "StillPending";
};

const selectChatFiles: Statement = {
  name: "attachments_cleanup_of_chat",
  text: `
    select
      count(*) filter (where cleanup_status = 'pending')::int as pending,
      coalesce(max(cleanup_attempts) filter (where cleanup_status = 'pending'), 0)::int as attempts,
      count(*) filter (where cleanup_status = 'failed')::int as failed,
      count(*) filter (where cleanup_status = 'done' and provider_file_id is not null)::int as deleted,
      count(*) filter (
        where status in ('pending', 'uploaded')
          and updated_at > now() - $3::int * interval '1 second'
      )::int as uploading
    from attachments
    where chat_id = $1
      and tenant_id = $2`,
};

/** The files of a chat by how far their cleanup is. */
export interface ChatFiles {
  readonly pending: number;
  /** Most attempts that failed on one of the pending. */
  readonly attempts: number;
  readonly failed: number;
  /** Were at a provider and are not any more. */
  readonly deleted: number;
  /** An upload may be under way that has not noticed the deletion. */
  readonly uploading: number;
}

export const countChatFiles = async (
  db: Queryable,
  tenantId: TenantId,
  chatId: string,
  staleSecs: number,
): Promise<ChatFiles> =>
  (await db.query<ChatFiles>(selectChatFiles, [chatId, tenantId, staleSecs])).rows[0] ?? {
    pending: 0,
    attempts: 0,
    failed: 0,
    deleted: 0,
    uploading: 0,
  };
