import type { Statement } from "../db/pool.ts";
import type { Tx } from "../db/tx.ts";
import type { DeadFilter, DeadLetter } from "./dead-letter.ts";
import { type DeadRow, deadColumns, deadConditions, placeholders, toLetter } from "./dead-store.ts";
import type { QueueSettings } from "./queue.ts";

/**
 * Changes of `outbox_dead` after the acknowledgement wrote it (outbox.md §11). Each is conditional on the
 * state of the row, which is locked in the order of ids: of two operators at once one finds it changed.
 */

/** Claims what waits or whose claim has run out, oldest first; what another operator holds is left out. */
export const claimDead = async (
  tx: Tx,
  filter: Omit<DeadFilter, "status">,
  timeoutSecs: number,
  limit: number,
): Promise<DeadLetter[]> => {
  const { values, bind } = placeholders();
  const { rows } = await tx.query<DeadRow>(
    `
    with chosen as (
      select d.id
      from outbox_dead d
      where ${deadConditions({ ...filter, status: "all" }, bind)}
        and (d.status = 'pending' or (d.status = 'replaying' and d.deadline <= now()))
      order by d.id
      limit ${bind(limit)}
      for update skip locked
    )
    update outbox_dead d
    set
      status = 'replaying',
      deadline = now() + make_interval(secs => ${bind(timeoutSecs)})
    from chosen c
    where d.id = c.id
    returning ${deadColumns(true)}`,
    values,
  );
  return rows.map(toLetter).sort((one, other) => (one.id < other.id ? -1 : 1));
};

/** What a changed dead letter is logged by. */
export interface ChangedDead {
  readonly id: bigint;
  readonly messageId: string;
  readonly kind: string;
}

/** Changes those of the given ids that are in a state; `$1` are the ids. */
const change = (name: string, from: "pending" | "replaying", assignments: string): Statement => ({
  name,
  text: `
    update outbox_dead d
    set
      ${assignments}
    from (select id from outbox_dead where id = any ($1) order by id for update) held
    where d.id = held.id
      and d.status = '${from}'
    returning d.id, d.message_id as "messageId", d.kind`,
});

const resolveStatement = change(
  "outbox_dead_resolve",
  "replaying",
  "status = 'resolved', deadline = null, completed_at = now(), completed_by = $2",
);

export const resolveDead = async (tx: Tx, ids: readonly bigint[], actor: string): Promise<ChangedDead[]> =>
  (await tx.query<ChangedDead>(resolveStatement, [ids, actor])).rows;

// The fingerprint as in outbox_settle: one cause, one group, however it came about.
const rejectStatement = change(
  "outbox_dead_reject",
  "replaying",
  `status = 'pending',
      deadline = null,
      attempts = d.attempts + 1,
      last_failed_at = now(),
      error = $2,
      fingerprint =
        md5(d.queue || ' ' || regexp_replace($2, '[0-9a-f]{8}-[0-9a-f-]{27}|[0-9]+', '#', 'g'))`,
);

export const rejectDead = async (tx: Tx, ids: readonly bigint[], error: string): Promise<ChangedDead[]> =>
  (await tx.query<ChangedDead>(rejectStatement, [ids, error])).rows;

const discardStatement = change(
  "outbox_dead_discard",
  "pending",
  "status = 'discarded', completed_at = now(), completed_by = $2",
);

export const discardDead = async (tx: Tx, ids: readonly bigint[], actor: string): Promise<ChangedDead[]> =>
  (await tx.query<ChangedDead>(discardStatement, [ids, actor])).rows;

// The same lock an enqueue takes: while it is held no repartition can move the partitions.
const lockMessages = "lock table outbox_message in row exclusive mode";

// The partition is found anew from the order key, as an enqueue does: unless the queue was repartitioned or
// renamed meanwhile, it is the old one. The message is new in all but its id, so it goes to the tail.
const requeueStatement: Statement = {
  name: "outbox_dead_requeue",
  text: `
    with given as (
      select
        d.id, coalesce(q.name, d.queue) as queue,
        d.message_id, d.tenant_id, d.order_key, d.kind, d.payload, d.trace
      from outbox_dead d
      left join unnest($3::text[], $4::text[]) as q (kind, name) on q.kind = d.kind
      where d.id = any ($1)
        and (d.status = 'pending' or (d.status = 'replaying' and d.deadline <= now()))
      order by d.id
      for update of d
    ),
    home as (
      select p.queue, array_agg(p.id order by p.no) as ids, count(*)::int as partitions
      from outbox_partition p
      where p.queue in (select g.queue from given g)
      group by p.queue
    ),
    sent as (
      insert into outbox_message (partition_id, message_id, tenant_id, order_key, kind, payload, trace)
      select
        h.ids[1 + get_byte(uuid_send(g.order_key), 15) % h.partitions],
        g.message_id, g.tenant_id, g.order_key, g.kind, g.payload, g.trace
      from given g
      join home h on h.queue = g.queue
      order by g.id
    )
    update outbox_dead d
    set
      status = 'resolved',
      deadline = null,
      completed_at = now(),
      completed_by = $2,
      replay_count = d.replay_count + 1
    from given g
    join home h on h.queue = g.queue
    where d.id = g.id
    returning d.id, d.message_id as "messageId", d.kind`,
};

/**
 * Enqueues each again under its `message_id`, into the queue that serves its kind now, and resolves it; those
 * nobody may requeue are left out.
 */
export const requeueDead = async (
  tx: Tx,
  queues: readonly Pick<QueueSettings, "kind" | "name">[],
  ids: readonly bigint[],
  actor: string,
): Promise<ChangedDead[]> => {
  const locked = tx.query(lockMessages);
  const { rows } = await tx.query<ChangedDead>(requeueStatement, [
    ids,
    actor,
    queues.map(({ kind }) => kind),
    queues.map(({ name }) => name),
  ]);
  await locked;
  return rows;
};

// What failed last before the limit was completed after that: the first condition only narrows the range of
// outbox_dead_status_idx.
const purgeStatement: Statement = {
  name: "outbox_dead_purge",
  text: `
    delete from outbox_dead d
    where d.id = any (array(
      select o.id
      from outbox_dead o
      where o.status in ('resolved', 'discarded')
        and o.last_failed_at <= now() - make_interval(days => $1)
        and o.completed_at <= now() - make_interval(days => $1)
        and ($2::text is null or o.queue = $2)
      limit $3
      for update skip locked
    ))`,
};

/** Deletes up to `limit` that were resolved or discarded so many days ago; returns how many. */
export const purgeDead = async (
  tx: Tx,
  scope: { readonly olderThanDays: number; readonly queue: string | undefined },
  limit: number,
): Promise<number> =>
  (await tx.query(purgeStatement, [scope.olderThanDays, scope.queue ?? null, limit])).rowCount;
