import type { TenantId } from "../auth/actor.ts";
import type { Queryable, Statement, Timestamp } from "../db/pool.ts";
import type { Tx } from "../db/tx.ts";

/**
 * SQL of `chats` for work in nobody's name: expiry and purge. The scans select ids of all tenants, each
 * row is then handled under its own (data.md §5 rule 4).
 */

export interface ChatOfTenant {
  readonly id: string;
  readonly tenantId: TenantId;
}

/** A row of a scan and where it stands in it: the next batch begins behind. */
export interface Scanned extends ChatOfTenant {
  readonly at: Timestamp;
}

/** A place in a scan; before everything by default. */
export type ScanPosition = Pick<Scanned, "at" | "id">;

export const scanStart: ScanPosition = { at: "-infinity", id: "00000000-0000-0000-0000-000000000000" };

// Index: chats_expiry_idx.
const scanExpired: Statement = {
  name: "chat_scan_expired",
  text: `
    select id, tenant_id as "tenantId", expires_at as at
    from chats
    where expires_at <= now()
      and deleted_at is null
      and (expires_at, id) > ($1::timestamptz, $2::uuid)
    order by expires_at, id
    limit $3`,
};

/** Live temporary chats of all tenants whose time is over, longest ago first. */
export const scanExpiredAcrossTenants = async (
  db: Queryable,
  after: ScanPosition,
  limit: number,
): Promise<Scanned[]> => (await db.query<Scanned>(scanExpired, [after.at, after.id, limit])).rows;

const lockExpired: Statement = {
  name: "chat_lock_expired",
  text: `
    select
    from chats
    where id = $1
      and tenant_id = $2
      and expires_at <= now()
      and deleted_at is null
    for no key update`,
};

/** Locks an expired live chat against sends, mutations and deletion; false when it is gone. */
export const lockExpiredChat = async (tx: Tx, chat: ChatOfTenant): Promise<boolean> =>
  (await tx.query(lockExpired, [chat.id, chat.tenantId])).rowCount > 0;

const expire: Statement = {
  name: "chat_expire",
  text: `
    update chats
    set
      deleted_at = now(),
      updated_at = now()
    where id = $1
      and tenant_id = $2
      and expires_at <= now()
      and deleted_at is null
    returning deleted_at as "deletedAt"`,
};

/** Soft delete of an expired chat, final; null when it is gone. */
export const expireChat = async (tx: Tx, chat: ChatOfTenant): Promise<Timestamp | null> =>
  (await tx.query<{ deletedAt: Timestamp }>(expire, [chat.id, chat.tenantId])).rows[0]?.deletedAt ?? null;

// Index: chats_deleted_idx.
const scanDeleted: Statement = {
  name: "chat_scan_deleted",
  text: `
    select id, tenant_id as "tenantId", deleted_at as at
    from chats
    where deleted_at <= now() - make_interval(days => $1)
      and (deleted_at, id) > ($2::timestamptz, $3::uuid)
    order by deleted_at, id
    limit $4`,
};

/** Chats of all tenants that were deleted so many days ago, longest ago first. */
export const scanDeletedAcrossTenants = async (
  db: Queryable,
  graceDays: number,
  after: ScanPosition,
  limit: number,
): Promise<Scanned[]> => (await db.query<Scanned>(scanDeleted, [graceDays, after.at, after.id, limit])).rows;

const lockDeleted: Statement = {
  name: "chat_lock_deleted",
  text: `
    select
    from chats
    where id = $1
      and tenant_id = $2
      and deleted_at <= now() - make_interval(days => $3)
    for update`,
};

/** Locks a chat deleted so many days ago against everything, also new rows in it; false when there is none. */
export const lockDeletedChat = async (tx: Tx, chat: ChatOfTenant, graceDays: number): Promise<boolean> =>
  (await tx.query(lockDeleted, [chat.id, chat.tenantId, graceDays])).rowCount > 0;

const purge: Statement = {
  name: "chat_purge",
  text: `
    delete from chats
    where id = $1
      and tenant_id = $2
      and deleted_at is not null`,
};

/** Removes a deleted chat, locked before, with everything in it (ON DELETE CASCADE). */
export const deleteChatRow = async (tx: Tx, chat: ChatOfTenant): Promise<void> => {
  await tx.query(purge, [chat.id, chat.tenantId]);
};

const find: Statement = {
  name: "chat_find_across_tenants",
  text: `
    select id, tenant_id as "tenantId", deleted_at as "deletedAt"
    from chats
    where id = $1`,
};

/** Whose chat this is, for an operator who has nothing but its id; null when there is none. */
export const findChatAcrossTenants = async (
  db: Queryable,
  chatId: string,
): Promise<(ChatOfTenant & { readonly deletedAt: Timestamp | null }) | null> =>
  (await db.query<ChatOfTenant & { deletedAt: Timestamp | null }>(find, [chatId])).rows[0] ?? null;
