import type { Queryable, Statement, Timestamp } from "../db/pool.ts";
import type { Tx } from "../db/tx.ts";
import { insertPartitions } from "./store.ts";

/** SQL of partitions and what waits in them, for operators: state, pause, repartition. */

export interface PartitionState {
  readonly id: number;
  readonly queue: string;
  readonly no: number;
  readonly backlog: number;
  /** Of its first message; null when none waits. */
  readonly oldestAgeSecs: number | null;
  readonly leased: boolean;
  readonly lockedBy: string | null;
  readonly paused: boolean;
  /** Until when all of it waits after a failure; null when it is due. */
  readonly notBefore: Timestamp | null;
  /** Order keys that wait after a failure, while their neighbours go on. */
  readonly parkedKeys: number;
  /** Of the message at its head or of the key that failed most often. */
  readonly attempts: number;
  readonly lastError: string | null;
}

// One pass over the messages whatever the plan; the oldest is the first: ids ascend.
const statesStatement: Statement = {
  name: "outbox_partition_states",
  text: `
    with waiting as (
      select m.partition_id, count(*) as backlog, min(m.id) as head
      from outbox_message m
      group by m.partition_id
    ),
    parked as (
      select k.partition_id, count(*) as keys, max(k.attempts) as attempts
      from outbox_parked k
      group by k.partition_id
    )
    select
      p.id, p.queue, p.no,
      coalesce(w.backlog, 0)::float8 as "backlog",
      extract(epoch from now() - h.created_at)::float8 as "oldestAgeSecs",
      coalesce(p.lease_until > now(), false) as "leased",
      case when p.lease_until > now() then p.locked_by end as "lockedBy",
      p.paused,
      case when p.not_before > now() then p.not_before end as "notBefore",
      coalesce(k.keys, 0)::float8 as "parkedKeys",
      greatest(case when h.id = p.head_id then p.head_attempts else 0 end, coalesce(k.attempts, 0))
        as "attempts",
      p.last_error as "lastError"
    from outbox_partition p
    left join waiting w on w.partition_id = p.id
    left join outbox_message h on h.partition_id = w.partition_id and h.id = w.head
    left join parked k on k.partition_id = p.id
    where p.queue = any ($1)
    order by p.queue, p.no`,
};

export const readPartitionStates = async (
  db: Queryable,
  queues: readonly string[],
): Promise<PartitionState[]> => (await db.query<PartitionState>(statesStatement, [queues])).rows;

export interface PartitionName {
  readonly id: number;
  readonly queue: string;
  readonly no: number;
}

const pauseStatement: Statement = {
  name: "outbox_pause",
  text: `
    update outbox_partition p
    set paused = $3
    from (
      select id
      from outbox_partition
      where ($1::int is null or id = $1)
        and ($2::text is null or queue = $2)
      order by id
      for update
    ) held
    where p.id = held.id
    returning p.id, p.queue, p.no`,
};

/** Claims leave paused partitions alone; a batch already handed out ends as it would. */
export const setPaused = async (
  tx: Tx,
  scope: { readonly partitionId?: number | undefined; readonly queue?: string | undefined },
  paused: boolean,
): Promise<PartitionName[]> =>
  (await tx.query<PartitionName>(pauseStatement, [scope.partitionId ?? null, scope.queue ?? null, paused]))
    .rows;

// Few partitions have a name nobody serves, usually none: the messages of the others are not looked at.
const unservedStatement: Statement = {
  name: "outbox_unserved",
  text: `
    select distinct p.queue
    from outbox_partition p
    where p.queue <> all ($1)
      and exists (
        select
        from outbox_message m
        where m.partition_id = p.id
      )
    order by p.queue`,
};

/** The queues besides `served` in which messages wait, as they do when a queue was renamed too early. */
export const readUnserved = async (db: Queryable, served: readonly string[]): Promise<string[]> =>
  (await db.query<{ queue: string }>(unservedStatement, [served])).rows.map(({ queue }) => queue);

const strayStatement: Statement = {
  name: "outbox_strays",
  text: `
    select count(*) as messages
    from outbox_message m
    where not exists (
      select
      from outbox_partition p
      where p.id = m.partition_id
    )`,
};

/** Messages of partitions that are no more, which only a process frozen during a repartition can leave. */
export const countStrays = async (db: Queryable): Promise<number> =>
  Number((await db.query<{ messages: bigint }>(strayStatement)).rows[0]?.messages ?? 0);

/** Waits for every transaction that enqueues, claims or registers, and keeps new ones out until the end. */
export const lockOutbox = async (tx: Tx): Promise<void> => {
  await tx.query("lock table outbox_partition, outbox_message in share row exclusive mode");
};

const removeStatement: Statement = {
  name: "outbox_partition_remove",
  text: `
    delete from outbox_partition
    where queue = $1
      and no >= $2`,
};

// Keys of a drained queue have nothing to wait for.
const unparkStatement: Statement = {
  name: "outbox_unpark",
  text: `
    delete from outbox_parked k
    using outbox_partition p
    where p.id = k.partition_id
      and p.queue = $1`,
};

/** Gives a drained queue `count` partitions; the caller holds `lockOutbox`. */
export const resizeQueue = async (tx: Tx, queue: string, count: number): Promise<void> => {
  await tx.query(unparkStatement, [queue]);
  await tx.query(removeStatement, [queue, count]);
  await insertPartitions(tx, queue, count);
};

// They keep their ids, and with them their order; claims look from the start again.
const adoptStatement: Statement = {
  name: "outbox_adopt",
  text: `
    with home as (
      select p.id, p.no, count(*) over () as partitions
      from outbox_partition p
      where p.queue = $1
    ),
    moved as (
      update outbox_message m
      set partition_id = h.id
      from home h
      where m.kind = $2
        and h.no = get_byte(uuid_send(m.order_key), 15) % h.partitions
        and not exists (
          select
          from outbox_partition o
          where o.id = m.partition_id
        )
      returning m.id
    ),
    looked as (
      update outbox_partition p
      set
        scan_from = 0,
        read_from = 0
      where p.queue = $1
        and exists (select from moved)
    )
    select count(*) as messages
    from moved`,
};

/** Moves messages of partitions that are no more to those of their queue; returns how many. */
export const adoptStrays = async (tx: Tx, queue: string, kind: string): Promise<number> =>
  Number((await tx.query<{ messages: bigint }>(adoptStatement, [queue, kind])).rows[0]?.messages ?? 0);
