import type { TenantId } from "../auth/actor.ts";
import type { Statement, Timestamp } from "../db/pool.ts";
import type { Tx } from "../db/tx.ts";

/** What a mutation of a summarized turn does to `thread_summaries`. */

/** A message that was soft-deleted. */
export interface GoneMessage {
  readonly id: string;
  readonly createdAt: Timestamp;
}

const deleteCovering: Statement = {
  name: "summary_delete_covering",
  text: `
    delete from thread_summaries s
    where s.chat_id = $1
      and s.tenant_id = $2
      and exists (
        select
        from unnest($3::uuid[], $4::timestamptz[]) as gone (id, created_at)
        where (gone.created_at, gone.id) <= (s.summarized_up_to_created_at, s.summarized_up_to_message_id)
      )`,
};

/**
 * Deletes the chat's summary if one of these messages is not beyond its frontier (turns.md §15.3); true
 * if it did. They were soft-deleted before, in this transaction: a summary that was being committed
 * held them, so it is seen here.
 */
export const deleteSummaryCovering = async (
  tx: Tx,
  tenantId: TenantId,
  chatId: string,
  gone: readonly GoneMessage[],
): Promise<boolean> =>
  (
    await tx.query(deleteCovering, [
      chatId,
      tenantId,
      gone.map((message) => message.id),
      gone.map((message) => message.createdAt),
    ])
  ).rowCount > 0;
