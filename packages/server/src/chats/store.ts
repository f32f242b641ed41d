import type { Actor, TenantId, UserId } from "../auth/actor.ts";
import type { Queryable, Result, Statement, Timestamp } from "../db/pool.ts";
import type { Tx } from "../db/tx.ts";
import type { Chat } from "./chat.ts";

/** All SQL of `chats` but the list (see `list.ts`). Every statement names tenant and owner (data.md §5). */

/** `message_count` is counted on read: all messages not deleted (turns.md §19). */
export const chatColumns = `
      c.id, c.model, c.title, c.is_temporary as "isTemporary", c.expires_at as "expiresAt",
      (
        select count(*)
        from messages m
        where m.chat_id = c.id
          and m.tenant_id = c.tenant_id
          and m.deleted_at is null
      ) as "messageCount",
      c.created_at as "createdAt", c.updated_at as "updatedAt"`;

const insert: Statement = {
  name: "chat_insert",
  text: `
    insert into chats as c (id, tenant_id, user_id, model, title, is_temporary, expires_at, created_at, updated_at)
    values ($1, $2, $3, $4, $5, $6, case when $6 then now() + interval '24 hours' end, now(), now())
    returning ${chatColumns}`,
};

export interface NewChat {
  readonly id: string;
  readonly model: string;
  readonly title: string | null;
  readonly isTemporary: boolean;
}

export const insertChat = async (db: Queryable, actor: Actor, chat: NewChat): Promise<Chat | undefined> =>
  (
    await db.query<Chat>(insert, [
      chat.id,
      actor.tenantId,
      actor.userId,
      chat.model,
      chat.title,
      chat.isTemporary,
    ])
  ).rows[0];

const select: Statement = {
  name: "chat_select",
  text: `
    select ${chatColumns}
    from chats c
    where c.id = $1
      and c.tenant_id = $2
      and c.user_id = $3
      and c.deleted_at is null`,
};

/** The caller's live chat; null when foreign, deleted or absent. */
export const findChat = async (db: Queryable, actor: Actor, chatId: string): Promise<Chat | null> =>
  (await db.query<Chat>(select, [chatId, actor.tenantId, actor.userId])).rows[0] ?? null;

const selectModel: Statement = {
  name: "chat_select_model",
  text: `
    select model
    from chats
    where id = $1
      and tenant_id = $2
      and user_id = $3
      and deleted_at is null`,
};

/** The selected model of the caller's live chat, without counting messages; null when not visible. */
export const findChatModel = async (db: Queryable, actor: Actor, chatId: string): Promise<string | null> =>
  (await db.query<{ model: string }>(selectModel, [chatId, actor.tenantId, actor.userId])).rows[0]?.model ??
  null;

const rename: Statement = {
  name: "chat_rename",
  text: `
    update chats c
    set
      title = $4,
      updated_at = now()
    where c.id = $1
      and c.tenant_id = $2
      and c.user_id = $3
      and c.deleted_at is null
    returning ${chatColumns}`,
};

export const renameChat = async (tx: Tx, actor: Actor, chatId: string, title: string): Promise<Chat | null> =>
  (await tx.query<Chat>(rename, [chatId, actor.tenantId, actor.userId, title])).rows[0] ?? null;

const touch: Statement = {
  name: "chat_touch",
  text: `
    update chats
    set updated_at = now()
    where id = $1
      and tenant_id = $2
      and user_id = $3
      and deleted_at is null`,
};

/** Marks activity and serializes turn creation per chat (turns.md §4.3 step 1); 0 rows = not visible. */
export const touchChat = (tx: Tx, actor: Actor, chatId: string): Promise<Result<never>> =>
  tx.query(touch, [chatId, actor.tenantId, actor.userId]);

const softDelete: Statement = {
  name: "chat_soft_delete",
  text: `
    update chats
    set
      deleted_at = now(),
      updated_at = now()
    where id = $1
      and tenant_id = $2
      and user_id = $3
      and deleted_at is null
    returning deleted_at as "deletedAt"`,
};

/** Soft delete, final; null when the chat is not visible (also when already deleted). */
export const softDeleteChat = async (tx: Tx, actor: Actor, chatId: string): Promise<Timestamp | null> =>
  (await tx.query<{ deletedAt: Timestamp }>(softDelete, [chatId, actor.tenantId, actor.userId])).rows[0]
    ?.deletedAt ?? null;

const selectOwner: Statement = {
  name: "chat_owner_of_tenant",
  text: `
    select user_id as "userId"
    from chats
    where id = $1
      and tenant_id = $2
      and deleted_at is null`,
};

/** The owner of a live chat of the tenant, for work in nobody's name; null when deleted or absent. */
export const findOwnerForTenant = async (
  db: Queryable,
  tenantId: TenantId,
  chatId: string,
): Promise<UserId | null> =>
  (await db.query<{ userId: UserId }>(selectOwner, [chatId, tenantId])).rows[0]?.userId ?? null;

const lockLive: Statement = {
  name: "chat_lock_live",
  text: `
    select model
    from chats
    where id = $1
      and tenant_id = $2
      and deleted_at is null
    for no key update`,
};

/**
 * Locks a live chat of the tenant against sends, mutations and deletion, for work in nobody's name;
 * its selected model, null when deleted or absent.
 */
export const lockLiveChat = async (tx: Tx, tenantId: TenantId, chatId: string): Promise<string | null> =>
  (await tx.query<{ model: string }>(lockLive, [chatId, tenantId])).rows[0]?.model ?? null;

const lockOwn: Statement = {
  name: "chat_lock_own",
  text: `
    select
    from chats
    where id = $1
      and tenant_id = $2
      and user_id = $3
      and deleted_at is null
    for no key update`,
};

/** Locks the caller's live chat against uploads, sends and deletion; false when it is not visible. */
export const lockOwnChat = async (tx: Tx, actor: Actor, chatId: string): Promise<boolean> =>
  (await tx.query(lockOwn, [chatId, actor.tenantId, actor.userId])).rowCount === 1;

const selectDeletedAt: Statement = {
  name: "chat_deleted_at",
  text: `
    select deleted_at as "deletedAt"
    from chats
    where id = $1
      and tenant_id = $2`,
};

/** When a chat of the tenant was deleted; null when it lives or is gone altogether. */
export const findDeletionOfChat = async (
  db: Queryable,
  tenantId: TenantId,
  chatId: string,
): Promise<Timestamp | null> =>
  (await db.query<{ deletedAt: Timestamp | null }>(selectDeletedAt, [chatId, tenantId])).rows[0]?.deletedAt ??
  null;
