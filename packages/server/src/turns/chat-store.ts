import type { TenantId } from "../auth/actor.ts";
import type { Queryable, Statement } from "../db/pool.ts";

/** SQL of `chat_turns` that asks about a whole chat. */

const selectRunning: Statement = {
  name: "turn_runs_in_chat",
  text: `
    select
    from chat_turns
    where chat_id = $1
      and tenant_id = $2
      and state = 'running'
    limit 1`,
};

/** Whether a turn of the chat holds a reserve that is still to be settled. */
export const hasRunningTurn = async (db: Queryable, tenantId: TenantId, chatId: string): Promise<boolean> =>
  (await db.query(selectRunning, [chatId, tenantId])).rowCount > 0;
