import type { TenantId } from "../auth/actor.ts";
import type { Queryable, Statement } from "../db/pool.ts";
import type { Tx } from "../db/tx.ts";
import { type FileKey, fileValues } from "./cleanup-store.ts";

/** SQL of `attachments` for cleanup nobody is at: stale uploads, forgotten and given-up cleanups, orphans. */

/** A row whose cleanup event is (again) to be written. */
export interface CleanupRow {
  readonly id: string;
  readonly tenantId: TenantId;
  readonly chatId: string;
  readonly providerFileId: string | null;
  readonly vectorStoreId: string | null;
  readonly storageBackend: string;
  readonly kind: "document" | "image";
  /** When it was deleted, or else gave up. */
  readonly since: string;
  /** When its chat was deleted: then the chat's cleanup owns it. */
  readonly chatDeletedAt: string | null;
}

const eventColumns = `
      a.id, a.tenant_id as "tenantId", a.chat_id as "chatId", a.provider_file_id as "providerFileId",
      (
        select s.vector_store_id
        from chat_vector_stores s
        where s.tenant_id = a.tenant_id
          and s.chat_id = a.chat_id
          and a.for_file_search
      ) as "vectorStoreId",
      a.storage_backend as "storageBackend", a.attachment_kind as kind,
      coalesce(a.deleted_at, a.updated_at) as since,
      (
        select c.deleted_at
        from chats c
        where c.id = a.chat_id
          and c.tenant_id = a.tenant_id
      ) as "chatDeletedAt"`;

/** Scans that span tenants tell ids; each row is then handled under its own (data.md §5 rule 4). */
export interface ScanLimits {
  /** Untouched for so long. */
  readonly staleSecs: number;
  readonly batchSize: number;
}

const scanColumns = `a.id, a.tenant_id as "tenantId", a.chat_id as "chatId"`;

// attachments_stale_idx.
const scanStale: Statement = {
  name: "attachments_scan_stale",
  text: `
    select ${scanColumns}
    from attachments a
    where a.status in ('pending', 'uploaded')
      and a.deleted_at is null
      and a.updated_at < now() - $1::int * interval '1 second'
    order by a.updated_at
    limit $2`,
};

/** Uploads of all tenants nobody has touched for so long. */
export const scanStaleUploadsAcrossTenants = async (db: Queryable, limits: ScanLimits): Promise<FileKey[]> =>
  (await db.query<FileKey>(scanStale, [limits.staleSecs, limits.batchSize])).rows;

const failStale: Statement = {
  name: "attachment_fail_stale",
  text: `
    update attachments a
    set
      status = 'failed',
      error_code = 'upload_interrupted',
      cleanup_status = case
        when a.cleanup_status is null and a.provider_file_id is not null then 'pending'
        else a.cleanup_status
      end,
      cleanup_updated_at = now(),
      updated_at = now()
    where a.id = $1
      and a.tenant_id = $2
      and a.chat_id = $3
      and a.status in ('pending', 'uploaded')
      and a.deleted_at is null
      and a.updated_at < now() - $4::int * interval '1 second'
    returning a.cleanup_status = 'pending' as owed, ${eventColumns}`,
};

/**
 * A stale upload → `failed`, `upload_interrupted`, a stored file due for cleanup; null when it moved. With
 * `owed` a cleanup is pending and may need its event.
 */
export const failStaleUpload = async (
  tx: Tx,
  file: FileKey,
  staleSecs: number,
): Promise<(CleanupRow & { readonly owed: boolean | null }) | null> =>
  (
    await tx.query<CleanupRow & { readonly owed: boolean | null }>(failStale, [
      ...fileValues(file),
      staleSecs,
    ])
  ).rows[0] ?? null;

// attachments_cleanup_idx.
const scanForgotten: Statement = {
  name: "attachments_scan_forgotten",
  text: `
    select ${scanColumns}
    from attachments a
    where a.cleanup_status = 'pending'
      and a.cleanup_updated_at < now() - $1::int * interval '1 second'
    order by a.cleanup_updated_at
    limit $2`,
};

/** Rows of all tenants whose pending cleanup nobody has touched for so long. */
export const scanForgottenAcrossTenants = async (db: Queryable, limits: ScanLimits): Promise<FileKey[]> =>
  (await db.query<FileKey>(scanForgotten, [limits.staleSecs, limits.batchSize])).rows;

const touchForgotten: Statement = {
  name: "attachment_touch_forgotten",
  text: `
    update attachments a
    set cleanup_updated_at = now()
    where a.id = $1
      and a.tenant_id = $2
      and a.chat_id = $3
      and a.cleanup_status = 'pending'
      and a.cleanup_updated_at < now() - $4::int * interval '1 second'
    returning ${eventColumns}`,
};

/** Marks a forgotten cleanup as looked at, for the same time again; null when somebody else was at it. */
export const touchForgottenCleanup = async (
  tx: Tx,
  file: FileKey,
  staleSecs: number,
): Promise<CleanupRow | null> =>
  (await tx.query<CleanupRow>(touchForgotten, [...fileValues(file), staleSecs])).rows[0] ?? null;

const countBacklog: Statement = {
  name: "attachments_scan_backlog",
  text: `
    select
      count(*) filter (where cleanup_status = 'pending')::int as pending,
      count(*) filter (where cleanup_status = 'failed')::int as failed,
      extract(epoch from now() - min(cleanup_updated_at) filter (where cleanup_status = 'pending'))::float8
        as "oldestPendingSecs"
    from attachments
    where cleanup_status in ('pending', 'failed')`,
};

export interface Backlog {
  readonly pending: number;
  readonly failed: number;
  /** Since anything happened to the pending row that was left alone longest. */
  readonly oldestPendingSecs: number | null;
}

/** How many files of all tenants are still owed to be deleted. */
export const countBacklogAcrossTenants = async (db: Queryable): Promise<Backlog> =>
  (await db.query<Backlog>(countBacklog)).rows[0] ?? { pending: 0, failed: 0, oldestPendingSecs: null };

// attachments_failed_idx.
const countFailed: Statement = {
  name: "attachments_scan_failed",
  text: `
    select count(*)::int as failed
    from attachments
    where status = 'failed'
      and deleted_at is null`,
};

/** How many uploads of all tenants have failed and are still shown as such. */
export const countFailedAcrossTenants = async (db: Queryable): Promise<number> =>
  (await db.query<{ failed: number }>(countFailed)).rows[0]?.failed ?? 0;

// A file's name says no tenant.
const scanOwned: Statement = {
  name: "attachments_scan_owned",
  text: `
    select a.id
    from attachments a
    where a.id = any($1::uuid[])
      and not (
        (
          a.status = 'failed'
          or a.deleted_at is not null
          or exists (
            select 1
            from chats c
            where c.id = a.chat_id
              and c.tenant_id = a.tenant_id
              and c.deleted_at is not null
          )
        )
        and (
          a.cleanup_status in ('done', 'failed')
          or (a.cleanup_status is null and a.provider_file_id is null and a.status = 'failed')
        )
      )`,
};

/**
 * Which of these attachments, of whatever tenant, still have a use for their provider file, or a cleanup
 * that will remove it (attachments.md §13).
 */
export const scanOwnedAcrossTenants = async (
  db: Queryable,
  ids: readonly string[],
): Promise<ReadonlySet<string>> =>
  new Set((await db.query<{ id: string }>(scanOwned, [ids])).rows.map(({ id }) => id));

/** Which given-up cleanups an operator means. */
export interface DebtFilter {
  readonly tenantId?: string | undefined;
  readonly chatId?: string | undefined;
  readonly attachmentId?: string | undefined;
}

const scanDebt: Statement = {
  name: "attachments_scan_debt",
  text: `
    select
      ${scanColumns}, a.provider_id as "providerId", a.cleanup_attempts as attempts,
      a.last_cleanup_error as error, a.cleanup_updated_at as "failedAt"
    from attachments a
    where a.cleanup_status = 'failed'
      and ($1::uuid is null or a.tenant_id = $1)
      and ($2::uuid is null or a.chat_id = $2)
      and ($3::uuid is null or a.id = $3)
    order by a.cleanup_updated_at, a.id
    limit $4`,
};

/** A file whose deletion was given up. */
export interface DebtRow extends FileKey {
  readonly providerId: string;
  readonly attempts: number;
  readonly error: string | null;
  readonly failedAt: string;
}

/** Given-up files of all tenants the filter lets through, longest ago first: for operators. */
export const scanDebtAcrossTenants = async (
  db: Queryable,
  { tenantId, chatId, attachmentId }: DebtFilter,
  limit: number,
): Promise<DebtRow[]> =>
  (await db.query<DebtRow>(scanDebt, [tenantId ?? null, chatId ?? null, attachmentId ?? null, limit])).rows;

const retryFailed: Statement = {
  name: "attachment_retry_cleanup",
  text: `
    update attachments a
    set
      cleanup_status = 'pending',
      cleanup_attempts = 0,
      cleanup_updated_at = now(),
      updated_at = now()
    where a.id = $1
      and a.tenant_id = $2
      and a.chat_id = $3
      and a.cleanup_status = 'failed'
    returning ${eventColumns}`,
};

/** `failed` → `pending` with no attempts; null when it was not failed any more. */
export const retryFailedCleanup = async (tx: Tx, file: FileKey): Promise<CleanupRow | null> =>
  (await tx.query<CleanupRow>(retryFailed, fileValues(file))).rows[0] ?? null;
