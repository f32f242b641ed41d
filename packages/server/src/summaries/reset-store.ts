import type { TenantId } from "../auth/actor.ts";
import type { Statement } from "../db/pool.ts";
import type { Tx } from "../db/tx.ts";

/** What a mutation of a summarized turn does to `thread_summaries`. */

// Covered by its flag or by the frontier: whichever tells, the summary holds text that is gone.
const deleteCovering: Statement = {
  name: "summary_delete_covering",
  text: `
    delete from thread_summaries s
    where s.chat_id = $1
      and s.tenant_id = $2
      and exists (
        select
        from messages m
        where m.chat_id = s.chat_id
          and m.tenant_id = s.tenant_id
          and m.request_id = $3
          and (
            m.is_compressed
            or (m.created_at, m.id) <= (s.summarized_up_to_created_at, s.summarized_up_to_message_id)
          )
      )
    returning s.id`,
};

/**
 * Deletes the chat's summary if it covers a message of this turn (turns.md §15.3); true if it did. Call
 * it after the turn's messages were soft-deleted: a summary that commits meanwhile has waited for them.
 */
export const deleteSummaryCovering = async (
  tx: Tx,
  tenantId: TenantId,
  chatId: string,
  requestId: string,
): Promise<boolean> => (await tx.query(deleteCovering, [chatId, tenantId, requestId])).rowCount > 0;
