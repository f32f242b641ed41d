import type { TenantId, UserId } from "../auth/actor.ts";
import type { Queryable, Statement, Timestamp } from "../db/pool.ts";
import type { Tx } from "../db/tx.ts";

/** The SQL of `chats` about what providers still hold of a deleted one. */

const selectDeletion: Statement = {
  name: "chat_deletion",
  text: `
    select deleted_at as "deletedAt"
    from chats
    where id = $1
      and tenant_id = $2`,
};

/** Whether a chat of the tenant is there, deleted, or purged (or was never there). */
export const findChatState = async (
  db: Queryable,
  tenantId: TenantId,
  chatId: string,
): Promise<"live" | "deleted" | "gone"> => {
  const [row] = (await db.query<{ deletedAt: Timestamp | null }>(selectDeletion, [chatId, tenantId])).rows;
  if (row === undefined) return "gone";
  return row.deletedAt === null ? "live" : "deleted";
};

const recordErased: Statement = {
  name: "chat_record_erasure",
  text: `
    update chats
    set
      erased_vector_stores = erased_vector_stores + $3::int,
      erased_at = case when $4::boolean then now() end
    where id = $1
      and tenant_id = $2
      and deleted_at is not null
      and erased_at is null
    returning
      user_id as "userId", deleted_at as "deletedAt", now() as "erasedAt",
      erased_vector_stores as "vectorStores"`,
};

export interface Erasure {
  readonly userId: UserId;
  readonly deletedAt: Timestamp;
  readonly erasedAt: Timestamp;
  readonly vectorStores: number;
}

/**
 * Notes that stores of a deleted chat are gone at their provider, and with `complete` that everything is.
 * Null when that was noted before: of all who find a chat erased, one is told so.
 */
export const recordErasure = async (
  tx: Tx,
  tenantId: TenantId,
  chatId: string,
  gone: { readonly vectorStores: number; readonly complete: boolean },
): Promise<Erasure | null> =>
  (await tx.query<Erasure>(recordErased, [chatId, tenantId, gone.vectorStores, gone.complete])).rows[0] ??
  null;
