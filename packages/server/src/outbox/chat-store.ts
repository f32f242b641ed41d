import type { Queryable, Statement } from "../db/pool.ts";

/** What of a deleted chat the outbox has not finished with. */
export type ChatHold = "cleanup_event" | "dead_letter";

// One statement, one snapshot: a message on its way into the dead letters, or back, is in one of the two.
// The cleanup event counts wherever it lies but in the other queues, so also in a queue that was renamed.
const selectHolds: Statement = {
  name: "outbox_chat_holds",
  text: `
    with chat as (
      select c.id, c.tenant_id
      from unnest($1::uuid[], $2::uuid[]) as c (id, tenant_id)
    )
    select c.id, 'cleanup_event' as hold
    from outbox_partition p
    join outbox_message m on m.partition_id = p.id
    join chat c on c.id = m.order_key and c.tenant_id = m.tenant_id
    where p.queue <> all ($3::text[])
      and m.kind = 'chat_cleanup'
    union
    select c.id, 'dead_letter' as hold
    from outbox_dead d
    join chat c on c.tenant_id = d.tenant_id
    where d.status in ('pending', 'replaying')
      and (d.order_key = c.id or strpos(d.payload, c.id::text) > 0)`,
};

/**
 * Which of these deleted chats have a cleanup event that is not delivered, or a dead letter of any queue
 * that nobody has dealt with. A chat without a hold never gets one from its cleanup event again: delivered
 * messages are deleted, and what an operator gave up is final.
 */
export const findChatHolds = async (
  db: Queryable,
  chats: readonly { readonly id: string; readonly tenantId: string }[],
  otherQueues: readonly string[],
): Promise<ReadonlyMap<string, readonly ChatHold[]>> => {
  const { rows } = await db.query<{ id: string; hold: ChatHold }>(selectHolds, [
    chats.map(({ id }) => id),
    chats.map(({ tenantId }) => tenantId),
    otherQueues,
  ]);
  const holds = new Map<string, ChatHold[]>();
  for (const { id, hold } of rows) holds.set(id, [...(holds.get(id) ?? []), hold]);
  return holds;
};
