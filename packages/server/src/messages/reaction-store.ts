import type { Actor, TenantId } from "../auth/actor.ts";
import type { Queryable, Statement, Timestamp } from "../db/pool.ts";
import type { Reaction } from "./message.ts";

/** All SQL of `message_reactions`. */

const selectReactions: Statement = {
  name: "message_reactions_of_page",
  text: `
    select message_id as "messageId", reaction
    from message_reactions
    where chat_id = $1
      and tenant_id = $2
      and user_id = $3
      and message_id = any($4::uuid[])`,
};

/** The caller's reactions to the messages of one page. */
export const findReactions = async (
  db: Queryable,
  scope: { tenantId: TenantId; userId: string; chatId: string },
  messageIds: readonly string[],
): Promise<Map<string, Reaction>> => {
  if (messageIds.length === 0) return new Map();
  const { rows } = await db.query<{ messageId: string; reaction: Reaction }>(selectReactions, [
    scope.chatId,
    scope.tenantId,
    scope.userId,
    messageIds,
  ]);
  return new Map(rows.map((row) => [row.messageId, row.reaction]));
};

// The message is looked at again by the statement itself: it may have been replaced since the checks.
const upsert: Statement = {
  name: "message_reaction_upsert",
  text: `
    insert into message_reactions (tenant_id, chat_id, message_id, user_id, reaction, created_at)
    select m.tenant_id, m.chat_id, m.id, $4, $5, now()
    from messages m
    where m.chat_id = $1
      and m.tenant_id = $2
      and m.id = $3
      and m.role = 'assistant'
      and m.deleted_at is null
    on conflict (message_id, user_id) do update
    set
      reaction = excluded.reaction,
      created_at = excluded.created_at
    where message_reactions.tenant_id = $2
    returning created_at as "createdAt"`,
};

/** Sets the caller's reaction to an answer of an already loaded chat; null when it is gone. */
export const upsertReaction = async (
  db: Queryable,
  actor: Actor,
  message: { readonly chatId: string; readonly id: string },
  reaction: Reaction,
): Promise<Timestamp | null> =>
  (
    await db.query<{ createdAt: Timestamp }>(upsert, [
      message.chatId,
      actor.tenantId,
      message.id,
      actor.userId,
      reaction,
    ])
  ).rows[0]?.createdAt ?? null;

const remove: Statement = {
  name: "message_reaction_delete",
  text: `
    delete from message_reactions
    where chat_id = $1
      and tenant_id = $2
      and message_id = $3
      and user_id = $4`,
};

/** Takes the caller's reaction back; no reaction is no error. */
export const deleteReaction = async (
  db: Queryable,
  actor: Actor,
  message: { readonly chatId: string; readonly id: string },
): Promise<void> => {
  await db.query(remove, [message.chatId, actor.tenantId, message.id, actor.userId]);
};
