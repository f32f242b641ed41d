import type { Db, Statement } from "../db/pool.ts";
import { inTransaction } from "../db/tx.ts";

/** What of a deleted chat the outbox has not finished with. */
export type ChatHold = "cleanup_event" | "dead_letter";

// As in outbox_claim: a backlog of another queue must not make the planner read all of it.
const pinPlan: Statement = {
  name: "outbox_chat_holds_plan",
  text: "select set_config('enable_seqscan', 'off', true), set_config('jit', 'off', true)",
};

// One statement, one snapshot: a message on its way into the dead letters, or back, is in one of the two.
// The cleanup event counts wherever it lies but in the other queues, so also in a queue that was renamed.
// The offset keeps the sub-select a probe of the primary key by partition.
const selectHolds: Statement = {
  name: "outbox_chat_holds",
  text: `
    with chat as (
      select c.id, c.tenant_id
      from unnest($1::uuid[], $2::uuid[]) as c (id, tenant_id)
    )
    select c.id, 'cleanup_event' as hold
    from outbox_partition p
    cross join lateral (
      select o.order_key, o.tenant_id
      from outbox_message o
      where o.partition_id = p.id
        and o.kind = 'chat_cleanup'
      offset 0
    ) m
    join chat c on c.id = m.order_key and c.tenant_id = m.tenant_id
    where p.queue <> all ($3::text[])
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
  db: Db,
  chats: readonly { readonly id: string; readonly tenantId: string }[],
  otherQueues: readonly string[],
): Promise<ReadonlyMap<string, readonly ChatHold[]>> => {
  const ids = chats.map(({ id }) => id);
  const tenantIds = chats.map(({ tenantId }) => tenantId);
  const rows = await inTransaction(db, async (tx) => {
    const [, found] = await Promise.all([
      tx.query(pinPlan),
      tx.query<{ id: string; hold: ChatHold }>(selectHolds, [ids, tenantIds, otherQueues]),
    ]);
    return found.rows;
  });
  const holds = new Map<string, ChatHold[]>();
  for (const { id, hold } of rows) holds.set(id, [...(holds.get(id) ?? []), hold]);
  return holds;
};
