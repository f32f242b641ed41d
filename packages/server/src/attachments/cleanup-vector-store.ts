import type { TenantId } from "../auth/actor.ts";
import type { Db, Queryable, Statement } from "../db/pool.ts";
import type { Tx } from "../db/tx.ts";
import type { DebtFilter } from "./cleanup-scan-store.ts";

/** The SQL of `chat_vector_stores` about removing them: a row of a deleted chat is a store still to delete. */

export interface StoreToDelete {
  readonly providerId: string;
  /** Null: its creation did not get that far. */
  readonly vectorStoreId: string | null;
}

const select: Statement = {
  name: "vector_store_to_delete",
  text: `
    select provider_id as "providerId", vector_store_id as "vectorStoreId"
    from chat_vector_stores
    where tenant_id = $1
      and chat_id = $2`,
};

export const findStoreToDelete = async (
  db: Queryable,
  tenantId: TenantId,
  chatId: string,
): Promise<StoreToDelete | null> =>
  (await db.query<StoreToDelete>(select, [tenantId, chatId])).rows[0] ?? null;

const recordAttempt: Statement = {
  name: "vector_store_cleanup_attempt",
  text: `
    update chat_vector_stores
    set
      cleanup_attempts = cleanup_attempts + 1,
      last_cleanup_error = left($3, 1000)
    where tenant_id = $1
      and chat_id = $2
    returning cleanup_attempts as attempts`,
};

/** Counts a failed attempt to delete the store; how many there were, 0 when the row is gone. */
export const recordStoreAttempt = async (
  db: Db,
  tenantId: TenantId,
  chatId: string,
  error: string,
): Promise<number> =>
  (await db.query<{ attempts: number }>(recordAttempt, [tenantId, chatId, error])).rows[0]?.attempts ?? 0;

// Another id than the one that was deleted: a creator stored it meanwhile, and it has to go too.
const remove: Statement = {
  name: "vector_store_delete_row",
  text: `
    delete from chat_vector_stores
    where tenant_id = $1
      and chat_id = $2
      and vector_store_id is not distinct from $3`,
};

/** Deletes the row of a store that is gone: the completion marker (outbox.md §10). False when it was not there. */
export const deleteStoreRow = async (
  tx: Tx,
  tenantId: TenantId,
  chatId: string,
  vectorStoreId: string | null,
): Promise<boolean> => (await tx.query(remove, [tenantId, chatId, vectorStoreId])).rowCount === 1;

const scanKnown: Statement = {
  name: "vector_stores_scan_known",
  text: `
    select vector_store_id as id
    from chat_vector_stores
    where vector_store_id = any($1::varchar[])`,
};

/** Which of these stores belong to a chat, of whatever tenant. */
export const scanKnownStoresAcrossTenants = async (
  db: Queryable,
  ids: readonly string[],
): Promise<ReadonlySet<string>> =>
  new Set((await db.query<{ id: string }>(scanKnown, [ids])).rows.map(({ id }) => id));

/** A deleted chat whose store could not be deleted. */
export interface StoreDebtRow {
  readonly tenantId: TenantId;
  readonly chatId: string;
  readonly providerId: string;
  readonly attempts: number;
  readonly error: string | null;
  readonly chatDeletedAt: string;
}

// A provider that refuses for good has a store given up at the first attempt, so one is debt enough.
const scanDebt: Statement = {
  name: "vector_stores_scan_debt",
  text: `
    select
      s.tenant_id as "tenantId", s.chat_id as "chatId", s.provider_id as "providerId",
      s.cleanup_attempts as attempts, s.last_cleanup_error as error, c.deleted_at as "chatDeletedAt"
    from chat_vector_stores s
    join chats c on c.id = s.chat_id and c.tenant_id = s.tenant_id
    where c.deleted_at is not null
      and s.cleanup_attempts > 0
      and ($1::uuid is null or s.tenant_id = $1)
      and ($2::uuid is null or s.chat_id = $2)
    order by c.deleted_at, s.chat_id
    limit $3`,
};

/** Stores of deleted chats that could not be deleted, of all tenants the filter lets through: for operators. */
export const scanStoreDebtAcrossTenants = async (
  db: Queryable,
  { tenantId, chatId }: DebtFilter,
  limit: number,
): Promise<StoreDebtRow[]> =>
  (await db.query<StoreDebtRow>(scanDebt, [tenantId ?? null, chatId ?? null, limit])).rows;

const resetAttempts: Statement = {
  name: "vector_store_reset_attempts",
  text: `
    update chat_vector_stores
    set cleanup_attempts = 0
    where tenant_id = $1
      and chat_id = $2
      and cleanup_attempts > 0`,
};

/** Starts counting anew; false when the store is gone, or somebody else did. */
export const resetStoreAttempts = async (tx: Tx, tenantId: TenantId, chatId: string): Promise<boolean> =>
  (await tx.query(resetAttempts, [tenantId, chatId])).rowCount === 1;
