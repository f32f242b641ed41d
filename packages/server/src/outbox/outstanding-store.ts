import type { Statement } from "../db/pool.ts";
import type { Tx } from "../db/tx.ts";

/** Cleanup messages that still wait in the outbox: asked for by the reconciler, a few rows at a time. */

// Partitions of the two queues only; the order key narrows to a tenant, or a chat, before payloads are read.
const selectOutstanding: Statement = {
  name: "outbox_outstanding_cleanup",
  text: `
    select 1
    from outbox_partition p
    join outbox_message m on m.partition_id = p.id
    where m.tenant_id = $2
      and (
        (p.queue = $4 and m.order_key = $2 and strpos(m.payload, $1::text) > 0)
        or (p.queue = $5 and m.order_key = $3)
      )
    limit 1`,
};

/** Whether a cleanup event of this attachment, or of its chat, waits for delivery. */
export const hasOutstandingCleanup = async (
  tx: Tx,
  file: { readonly id: string; readonly tenantId: string; readonly chatId: string },
  queues: { readonly attachmentCleanup: string; readonly chatCleanup: string },
): Promise<boolean> => {
  const { id, tenantId, chatId } = file;
  const values = [id, tenantId, chatId, queues.attachmentCleanup, queues.chatCleanup];
  return (await tx.query(selectOutstanding, values)).rowCount > 0;
};
