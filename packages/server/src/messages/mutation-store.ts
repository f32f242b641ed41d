import type { TenantId } from "../auth/actor.ts";
import type { Queryable, Statement, Timestamp } from "../db/pool.ts";
import type { Tx } from "../db/tx.ts";
import { markedAtOnce } from "./summary-store.ts";

/** What a retry, an edit or a delete of a turn does to `messages` (turns.md §15). */

const selectQuestion: Statement = {
  name: "message_question_of_turn",
  text: `
    select id, content
    from messages
    where chat_id = $1
      and tenant_id = $2
      and request_id = $3
      and role = 'user'
      and deleted_at is null`,
};

/** The question of a turn of an already loaded chat; null when it was deleted. */
export const findQuestion = async (
  db: Queryable,
  tenantId: TenantId,
  chatId: string,
  requestId: string,
): Promise<{ readonly id: string; readonly content: string } | null> =>
  (await db.query<{ id: string; content: string }>(selectQuestion, [chatId, tenantId, requestId])).rows[0] ??
  null;

const softDelete: Statement = {
  name: "message_soft_delete_turn",
  text: `
    update messages
    set deleted_at = now()
    where chat_id = $1
      and tenant_id = $2
      and request_id = $3
      and deleted_at is null
    returning id, created_at as "createdAt"`,
};

/** Soft-deletes both messages of a turn; returns what a thread summary may know of them. */
export const deleteMessagesOfTurn = async (
  tx: Tx,
  tenantId: TenantId,
  chatId: string,
  requestId: string,
): Promise<{ readonly id: string; readonly createdAt: Timestamp }[]> =>
  (await tx.query<{ id: string; createdAt: Timestamp }>(softDelete, [chatId, tenantId, requestId])).rows;

const uncompress: Statement = {
  name: "message_uncompress_chat",
  text: `
    update messages
    set is_compressed = false
    where chat_id = $1
      and tenant_id = $2
      and is_compressed
      and deleted_at is null
      and id = any (array(
        select id
        from messages
        where chat_id = $1
          and tenant_id = $2
          and is_compressed
          and deleted_at is null
        limit $3
      ))`,
};

/** Gives the messages of a deleted summary back to the context, in the transaction that deleted it. */
export const uncompressMessages = async (tx: Tx, tenantId: TenantId, chatId: string): Promise<void> => {
  for (let given = markedAtOnce; given === markedAtOnce; ) {
    given = (await tx.query(uncompress, [chatId, tenantId, markedAtOnce])).rowCount;
  }
};
