import type { TenantId } from "../auth/actor.ts";
import type { Queryable, Statement } from "../db/pool.ts";

/** What of a chat may still exist at a provider: while any of it is owed, its rows must stay (data.md §4). */
export interface CleanupDebt {
  readonly pending: boolean;
  readonly failed: boolean;
  readonly vectorStore: boolean;
}

const select: Statement = {
  name: "attachments_cleanup_debt",
  text: `
    select
      exists (
        select
        from attachments
        where chat_id = $1
          and tenant_id = $2
          and cleanup_status = 'pending'
      ) as pending,
      exists (
        select
        from attachments
        where chat_id = $1
          and tenant_id = $2
          and cleanup_status = 'failed'
      ) as failed,
      exists (
        select
        from chat_vector_stores
        where chat_id = $1
          and tenant_id = $2
      ) as "vectorStore"`,
};

/** Files in either state of debt whatever their `deleted_at`, and the chat's store (attachments.md §14). */
export const findCleanupDebt = async (
  db: Queryable,
  tenantId: TenantId,
  chatId: string,
): Promise<CleanupDebt> =>
  (await db.query<CleanupDebt>(select, [chatId, tenantId])).rows[0] ?? {
    pending: false,
    failed: false,
    vectorStore: false,
  };
