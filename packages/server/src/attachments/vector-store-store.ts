import type { TenantId } from "../auth/actor.ts";
import type { Queryable, Statement, Timestamp } from "../db/pool.ts";
import type { Tx } from "../db/tx.ts";
import { ofLiveChat } from "./live-chat.ts";

/** The SQL of `chat_vector_stores` that uploads need: one row per chat (attachments.md §12). */

/** Whose store: looked up by nothing else. */
export interface StoreOwner {
  readonly tenantId: TenantId;
  readonly chatId: string;
}

export interface StoreRow {
  readonly id: string;
  /** Null while being created. */
  readonly vectorStoreId: string | null;
  /** Label of the storage it lies in. */
  readonly backend: string;
}

const select: Statement = {
  name: "vector_store_select",
  text: `
    select id, vector_store_id as "vectorStoreId", provider as backend
    from chat_vector_stores
    where tenant_id = $1
      and chat_id = $2`,
};

export const findStore = async (db: Queryable, { tenantId, chatId }: StoreOwner): Promise<StoreRow | null> =>
  (await db.query<StoreRow>(select, [tenantId, chatId])).rows[0] ?? null;

// A chat that is being deleted gets no row any more that its cleanup would not see.
const insert: Statement = {
  name: "vector_store_insert",
  text: `
    insert into chat_vector_stores (id, tenant_id, chat_id, provider, provider_id)
    select $1, c.tenant_id, c.id, $4, $5
    from chats c
    where c.tenant_id = $2
      and c.id = $3
      and c.deleted_at is null
    on conflict (tenant_id, chat_id) do nothing
    returning claimed_at as "claimedAt"`,
};

/** A claim to create the store; `claimedAt` tells it from the claim of whoever took over. */
export interface Claim {
  readonly id: string;
  readonly claimedAt: Timestamp;
}

/** Puts up the placeholder; null when there is a row already, or the chat is gone. */
export const insertPlaceholder = async (
  tx: Tx,
  { tenantId, chatId }: StoreOwner,
  row: { readonly id: string; readonly backend: string; readonly providerId: string },
): Promise<Claim | null> => {
  const { rows } = await tx.query<{ claimedAt: Timestamp }>(insert, [
    row.id,
    tenantId,
    chatId,
    row.backend,
    row.providerId,
  ]);
  const [claimed] = rows;
  return claimed === undefined ? null : { id: row.id, claimedAt: claimed.claimedAt };
};

const takeOver: Statement = {
  name: "vector_store_take_over",
  text: `
    update chat_vector_stores
    set claimed_at = now()
    where tenant_id = $1
      and chat_id = $2
      and vector_store_id is null
      and claimed_at < now() - interval '60 seconds'
    returning id, claimed_at as "claimedAt"`,
};

/** Takes the place of a creator that is dead: its placeholder is older than 60 s. One caller succeeds. */
export const takeOverPlaceholder = async (tx: Tx, { tenantId, chatId }: StoreOwner): Promise<Claim | null> =>
  (await tx.query<Claim>(takeOver, [tenantId, chatId])).rows[0] ?? null;

const setId: Statement = {
  name: "vector_store_set_id",
  text: `
    update chat_vector_stores s
    set vector_store_id = $4
    where s.id = $3
      and s.tenant_id = $1
      and s.chat_id = $2
      and s.vector_store_id is null
      and ${ofLiveChat("s")}`,
};

/** Whether the id was stored: not when another creator was first, or the chat is deleted. */
export const setStoreId = async (
  tx: Tx,
  { tenantId, chatId }: StoreOwner,
  row: { readonly id: string; readonly vectorStoreId: string },
): Promise<boolean> => (await tx.query(setId, [tenantId, chatId, row.id, row.vectorStoreId])).rowCount === 1;

const keep: Statement = {
  name: "vector_store_keep_for_cleanup",
  text: `
    insert into chat_vector_stores as s (id, tenant_id, chat_id, provider, provider_id, vector_store_id)
    select $1, c.tenant_id, c.id, $4, $5, $6
    from chats c
    where c.tenant_id = $2
      and c.id = $3
      and c.deleted_at is not null
    on conflict (tenant_id, chat_id) do update
    set
      vector_store_id = excluded.vector_store_id,
      provider = excluded.provider,
      provider_id = excluded.provider_id
    where s.tenant_id = $2
      and s.vector_store_id is null`,
};

/** Gives a deleted chat the row of a store that is still to be deleted; false when the chat lives, or has another. */
export const keepStoreForCleanup = async (
  tx: Tx,
  { tenantId, chatId }: StoreOwner,
  row: {
    readonly id: string;
    readonly backend: string;
    readonly providerId: string;
    readonly vectorStoreId: string;
  },
): Promise<boolean> => {
  const values = [row.id, tenantId, chatId, row.backend, row.providerId, row.vectorStoreId];
  return (await tx.query(keep, values)).rowCount === 1;
};

const removePlaceholder: Statement = {
  name: "vector_store_remove_placeholder",
  text: `
    delete from chat_vector_stores
    where id = $3
      and tenant_id = $1
      and chat_id = $2
      and vector_store_id is null
      and claimed_at = $4`,
};

/** Takes one's own placeholder back; that of whoever took over stays. */
export const deletePlaceholder = (tx: Tx, { tenantId, chatId }: StoreOwner, claim: Claim): Promise<unknown> =>
  tx.query(removePlaceholder, [tenantId, chatId, claim.id, claim.claimedAt]);

const countFiles: Statement = {
  name: "vector_store_count_files",
  text: `
    update chat_vector_stores
    set file_count = greatest(file_count + $3::int, 0)
    where tenant_id = $1
      and chat_id = $2`,
};

/** Moves the number of indexed live documents, which is only informational (data.md §2.7). */
export const countIndexedFiles = (tx: Tx, { tenantId, chatId }: StoreOwner, by: 1 | -1): Promise<unknown> =>
  tx.query(countFiles, [tenantId, chatId, by]);
