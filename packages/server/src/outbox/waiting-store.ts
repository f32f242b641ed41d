import type { Queryable, Statement, Timestamp } from "../db/pool.ts";
import type { Tx } from "../db/tx.ts";
import { placeholders } from "./dead-store.ts";
import type { PartitionCondition } from "./status.ts";

/**
 * SQL of the messages at the head of their order key, for operators, who see all tenants: what waits, and
 * giving one up.
 */

/** The first message of its order key that is neither delivered nor given up. */
export interface WaitingHead {
  /** Position in its partition; ascending in the order of enqueueing. */
  readonly id: bigint;
  readonly messageId: string;
  readonly queue: string;
  readonly kind: string;
  readonly partitionId: number;
  readonly tenantId: string;
  readonly orderKey: string;
  readonly trace: string | null;
  /** When it was enqueued. */
  readonly createdAt: Timestamp;
  /** Runs so far; one that is under way or was never answered counts. */
  readonly attempts: number;
  /** Null when no failure is known. */
  readonly firstFailedAt: Timestamp | null;
  readonly error: string | null;
  /** Null: as soon as a worker comes. */
  readonly nextAttemptAt: Timestamp | null;
  readonly condition: PartitionCondition;
  /** Messages of its order key that wait for it. */
  readonly behind: number;
}

/** What to look at; every part that is given must fit. */
export interface WaitingFilter {
  readonly queue?: string | undefined;
  readonly partitionId?: number | undefined;
  readonly tenantId?: string | undefined;
  /** Also what has not failed yet. Default: only what is being tried again. */
  readonly all?: boolean | undefined;
}

export interface WaitingListOptions {
  readonly limit: number;
  /** The last one of the page before. */
  readonly after?: bigint | undefined;
}

/** Oldest first. One pass over the messages whatever the plan, as for the status. */
export const listWaiting = async (
  db: Queryable,
  filter: WaitingFilter,
  { limit, after }: WaitingListOptions,
): Promise<WaitingHead[]> => {
  const { values, bind } = placeholders();
  const { queue, partitionId, tenantId, all = false } = filter;
  const of = [
    ...(partitionId === undefined ? [] : [`m.partition_id = ${bind(partitionId)}`]),
    ...(tenantId === undefined ? [] : [`m.tenant_id = ${bind(tenantId)}`]),
  ];
  const shown = [
    ...(queue === undefined ? [] : [`p.queue = ${bind(queue)}`]),
    ...(after === undefined ? [] : [`f.id > ${bind(after)}`]),
    // A run under way is no failure until it is answered.
    ...(all
      ? []
      : [
          `(
        k.order_key is not null
        or (p.head_id = f.id and p.head_attempts > case when p.lease_until > now() then 1 else 0 end)
      )`,
        ]),
  ];
  const { rows } = await db.query<WaitingHead>(
    `
    with first as (
      select m.partition_id, m.order_key, min(m.id) as id, count(*) - 1 as behind
      from outbox_message m
      where ${of.join("\n        and ") || "true"}
      group by m.partition_id, m.order_key
    )
    select
      f.id, m.message_id as "messageId", p.queue, m.kind, p.id as "partitionId",
      m.tenant_id as "tenantId", m.order_key as "orderKey", m.trace, m.created_at as "createdAt",
      coalesce(k.attempts, case when p.head_id = f.id then p.head_attempts end, 0) as "attempts",
      k.since as "firstFailedAt",
      coalesce(k.error, case when p.head_id = f.id then p.last_error end) as "error",
      coalesce(k.until, p.not_before) as "nextAttemptAt",
      case
        when p.paused then 'paused'
        when p.lease_until > now() then 'leased'
        when coalesce(k.until, p.not_before) > now() then 'backing off'
        else 'due'
      end as "condition",
      f.behind::float8 as "behind"
    from first f
    join outbox_partition p on p.id = f.partition_id
    join outbox_message m on m.partition_id = f.partition_id and m.id = f.id
    left join outbox_parked k on k.partition_id = f.partition_id and k.order_key = f.order_key
    where ${shown.join("\n      and ") || "true"}
    order by f.id
    limit ${bind(limit)}`,
    values,
  );
  return rows;
};

/** Where a message is. */
export interface MessagePlace {
  readonly partitionId: number;
  readonly id: bigint;
}

// No index has the message id: workers never look for one.
const placeStatement: Statement = {
  name: "outbox_message_place",
  text: `
    select partition_id as "partitionId", id
    from outbox_message
    where message_id = $1`,
};

export const findMessage = async (db: Queryable, messageId: string): Promise<MessagePlace | null> =>
  (await db.query<MessagePlace>(placeStatement, [messageId])).rows[0] ?? null;

// Whoever held an expired lease may still answer as long as nobody took it over: now it is taken. The lock
// waits for an acknowledgement under way, and the lease is judged as that left it.
const takeStatement: Statement = {
  name: "outbox_partition_take",
  text: `
    with held as materialized (
      select id, lease_until
      from outbox_partition
      where id = $1
      for update
    ),
    taken as (
      update outbox_partition p
      set
        lease_token = null,
        lease_until = null,
        locked_by = null,
        not_before = null
      from held
      where p.id = held.id
        and (held.lease_until is null or held.lease_until <= now())
      returning p.id
    )
    select exists (select from taken) as "taken"
    from held`,
};

/**
 * Keeps workers away from a partition until the transaction ends, and makes it due then; false while one
 * has it leased, null when there is no such partition. Read its messages by a statement of their own: it
 * sees what was deleted before the lock.
 */
export const takePartition = async (tx: Tx, partitionId: number): Promise<boolean | null> =>
  (await tx.query<{ taken: boolean }>(takeStatement, [partitionId])).rows[0]?.taken ?? null;

const headStatement: Statement = {
  name: "outbox_message_is_head",
  text: `
    select
      not exists (
        select
        from outbox_message e
        where e.partition_id = p.id
          and e.id >= p.scan_from
          and e.id < m.id
          and e.order_key = m.order_key
      ) as "head"
    from outbox_partition p
    join outbox_message m on m.partition_id = p.id
    where p.id = $1
      and m.id = $2`,
};

/** Whether the message is the first of its order key; null when it is gone. Its partition is taken. */
export const isHead = async (tx: Tx, { partitionId, id }: MessagePlace): Promise<boolean | null> =>
  (await tx.query<{ head: boolean }>(headStatement, [partitionId, id])).rows[0]?.head ?? null;

// As outbox_settle does with a waiting key whose message is given up: it goes on, and the partition is read
// from where its messages start.
const buryStatement: Statement = {
  name: "outbox_message_bury",
  text: `
    with given as materialized (
      select
        p.queue, m.*,
        coalesce(k.attempts, case when p.head_id = m.id then p.head_attempts end, 0) as attempts,
        coalesce(k.since, now()) as first_failed_at,
        coalesce(
          k.error,
          case when p.head_id = m.id then p.last_error end,
          'given up before it failed'
        ) as error
      from outbox_partition p
      join outbox_message m on m.partition_id = p.id
      left join outbox_parked k on k.partition_id = p.id and k.order_key = m.order_key
      where p.id = $1
        and m.id = $2
    ),
    removed as (
      delete from outbox_message m
      where m.partition_id = $1
        and m.id = $2
    ),
    resumed as (
      delete from outbox_parked k
      using given g
      where k.partition_id = g.partition_id
        and k.order_key = g.order_key
      returning k.partition_id, k.from_id
    ),
    reread as (
      update outbox_partition p
      set read_from = least(p.read_from, r.from_id)
      from resumed r
      where p.id = r.partition_id
    )
    insert into outbox_dead (
      queue, partition_id, message_id, tenant_id, order_key, kind, payload, trace, created_at,
      attempts, first_failed_at, error, fingerprint, rejected_by, reject_reason
    )
    select
      g.queue, g.partition_id, g.message_id, g.tenant_id, g.order_key, g.kind, g.payload, g.trace,
      g.created_at, g.attempts, g.first_failed_at, g.error,
      md5(g.queue || ' ' || regexp_replace(g.error, '[0-9a-f]{8}-[0-9a-f-]{27}|[0-9]+', '#', 'g')),
      $3, $4
    from given g
    returning id`,
};

/**
 * Makes a dead letter of the head of an order key, whose next message is then free to go; returns the id of
 * the dead letter, null when the message is gone. Its partition is taken.
 */
export const buryHead = async (
  tx: Tx,
  { partitionId, id }: MessagePlace,
  by: { readonly actor: string; readonly reason: string | null },
): Promise<bigint | null> =>
  (await tx.query<{ id: bigint }>(buryStatement, [partitionId, id, by.actor, by.reason])).rows[0]?.id ?? null;
