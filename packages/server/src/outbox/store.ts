import type { Db, Queryable, Result, Statement } from "../db/pool.ts";
import { inTransaction, type Tx } from "../db/tx.ts";
import type { Message } from "./message.ts";
import type { QueueKind, QueueSettings } from "./queue.ts";
import type { Settlement } from "./settle.ts";

/** All SQL of the outbox tables; the claim is a function of migration 0007, the acknowledgement of 0013. */

/** A message about to be written. */
export interface NewMessage {
  readonly partitionId: number;
  /** The idempotency key of every delivery; made here so that the log of the enqueue can name it. */
  readonly messageId: string;
  readonly tenantId: string;
  readonly orderKey: string;
  readonly kind: string;
  readonly payload: string;
  readonly trace: string | null;
}

const insertColumns = [
  "partition_id",
  "message_id",
  "tenant_id",
  "order_key",
  "kind",
  "payload",
  "trace",
] as const;
const insertStatements = new Map<number, Statement>();

/** One statement per count of messages: values lists need no array quoting of JSON, and keep their order. */
const insertStatement = (count: number): Statement => {
  let statement = insertStatements.get(count);
  if (statement === undefined) {
    const rows = Array.from({ length: count }, (_, row) => {
      const at = row * insertColumns.length;
      return `    (${insertColumns.map((_, column) => `$${at + column + 1}`).join(", ")})`;
    });
    statement = {
      name: `outbox_insert_${count}`,
      text: `
    insert into outbox_message (${insertColumns.join(", ")})
    values
  ${rows.join(",\n  ")}`,
    };
    insertStatements.set(count, statement);
  }
  return statement;
};

/** Writes up to 100 messages in one statement, issued before this returns. */
export const insertMessages = (tx: Tx, messages: readonly NewMessage[]): Promise<Result<never>> =>
  tx.query(
    insertStatement(messages.length),
    messages.flatMap((m) => [m.partitionId, m.messageId, m.tenantId, m.orderKey, m.kind, m.payload, m.trace]),
  );

export interface PartitionRow {
  readonly id: number;
  readonly queue: string;
  readonly no: number;
}

export const readPartitions = async (db: Queryable, queues: readonly string[]): Promise<PartitionRow[]> =>
  (
    await db.query<PartitionRow>(
      `
    select id, queue, no
    from outbox_partition
    where queue = any ($1)
    order by queue, no`,
      [queues],
    )
  ).rows;

/** Keeps concurrent registrations apart; short transactions of workers are waited for. */
export const lockPartitions = (tx: Tx): Promise<unknown> =>
  tx.query("lock table outbox_partition in share row exclusive mode");

export const insertPartitions = (tx: Tx, queue: string, count: number): Promise<unknown> =>
  tx.query(
    `
    insert into outbox_partition (queue, no)
    select $1, no
    from generate_series(0, $2::int - 1) as no
    on conflict (queue, no) do nothing`,
    [queue, count],
  );

interface ClaimedRow {
  partition_id: number;
  id: bigint;
  message_id: string;
  tenant_id: string;
  order_key: string;
  kind: string;
  payload: string;
  trace: string | null;
  age_ms: number;
  attempts: number;
  parked: boolean;
}

/** What one queue may take in one claim. */
export interface ClaimRequest {
  readonly settings: QueueSettings;
  readonly partitions: number;
  readonly batch: number;
  /** `{instance_id}:{queue}:{6 random}` (outbox.md §13). */
  readonly worker: string;
}

const claimStatement: Statement = {
  name: "outbox_claim",
  text: `
    select
      partition_id, id, message_id, tenant_id, order_key, kind, payload, trace, age_ms, attempts, parked
    from outbox_claim($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)`,
};

/** Array literals by hand: the elements need no quoting and there are thousands of them. */
const plainArray = (items: readonly (string | number | bigint | boolean | null)[]): string =>
  `{${items.map((item) => item ?? "null").join(",")}}`;

/** A partition whose acknowledgement left it leased, for this process's next claim. */
export interface KeptLease {
  readonly partitionId: number;
  readonly token: string;
}

/**
 * Leases due partitions under the token and returns their heads, partition by partition, in order.
 * `closed`: no message up to this id can still be committed; 0 when that is not known. Partitions that
 * were kept come first; those that give nothing are freed.
 */
export const claim = async (
  db: Queryable,
  requests: readonly ClaimRequest[],
  token: string,
  closed = 0n,
  kept: readonly KeptLease[] = [],
): Promise<Message[]> => {
  const { rows } = await db.query<ClaimedRow>(claimStatement, [
    requests.map((r) => r.settings.name),
    plainArray(requests.map((r) => r.partitions)),
    plainArray(requests.map((r) => r.batch)),
    plainArray(requests.map((r) => Math.ceil(r.settings.leaseMs))),
    plainArray(requests.map((r) => r.settings.policy === "park_key")),
    token,
    requests.map((r) => r.worker),
    closed,
    plainArray(kept.map((k) => k.partitionId)),
    plainArray(kept.map((k) => k.token)),
  ]);
  return rows.map((row) => ({
    partitionId: row.partition_id,
    id: row.id,
    messageId: row.message_id,
    tenantId: row.tenant_id,
    orderKey: row.order_key,
    kind: row.kind,
    payload: row.payload,
    trace: row.trace,
    ageMs: row.age_ms,
    attempts: row.attempts,
    parked: row.parked,
  }));
};

const settleStatement: Statement = {
  name: "outbox_settle",
  text: `
    select
      outbox_settle(
        $1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20, $21
      ) as held`,
};

/**
 * Acknowledges many partitions in one call; returns those whose lease still stood, the rest is undone.
 * Those to keep stay leased under `keptToken`, if there is one.
 */
export const settle = async (
  db: Queryable,
  settlements: readonly Settlement[],
  keptToken: string | null = null,
): Promise<ReadonlySet<number>> => {
  const dones = settlements.flatMap((s) => s.done.map((id) => [s.partitionId, id] as const));
  const dead = settlements.flatMap((s) => s.dead.map((d) => ({ partitionId: s.partitionId, ...d })));
  const parked = settlements.flatMap((s) => s.parked.map((k) => ({ partitionId: s.partitionId, ...k })));
  const resumed = settlements.flatMap((s) => s.resumed.map((key) => [s.partitionId, key] as const));
  const { rows } = await db.query<{ held: number[] }>(settleStatement, [
    plainArray(settlements.map((s) => s.partitionId)),
    plainArray(settlements.map((s) => s.token)),
    plainArray(settlements.map((s) => s.delayMs)),
    plainArray(settlements.map((s) => s.head?.id ?? null)),
    plainArray(settlements.map((s) => s.head?.attempts ?? null)),
    settlements.map((s) => s.error),
    plainArray(dones.map(([partitionId]) => partitionId)),
    plainArray(dones.map(([, id]) => id)),
    plainArray(dead.map((d) => d.partitionId)),
    plainArray(dead.map((d) => d.id)),
    plainArray(dead.map((d) => d.attempts)),
    dead.map((d) => d.error),
    plainArray(parked.map((k) => k.partitionId)),
    plainArray(parked.map((k) => k.orderKey)),
    plainArray(parked.map((k) => k.delayMs)),
    plainArray(parked.map((k) => k.attempts)),
    plainArray(resumed.map(([partitionId]) => partitionId)),
    plainArray(resumed.map(([, key]) => key)),
    plainArray(settlements.flatMap((s) => (s.keep && keptToken !== null ? s.partitionId : []))),
    keptToken,
    parked.map((k) => k.error),
  ]);
  return new Set(rows[0]?.held ?? []);
};

const renewStatement: Statement = {
  name: "outbox_renew",
  text: `
    update outbox_partition
    set lease_until = now() + $3::float8 * interval '1 ms'
    where id = $1
      and lease_token = $2
    returning id`,
};

/** Leases a held partition anew; false when the lease was lost. */
export const renewLease = async (
  db: Queryable,
  partitionId: number,
  token: string,
  leaseMs: number,
): Promise<boolean> => (await db.query(renewStatement, [partitionId, token, leaseMs])).rows.length > 0;

const lockLeaseStatement: Statement = {
  name: "outbox_lock_lease",
  text: `
    select id
    from outbox_partition
    where id = $1
      and lease_token = $2
    for update`,
};

/** Keeps the lease from being taken over until the transaction ends; false when it was lost. */
export const lockLease = async (tx: Tx, partitionId: number, token: string): Promise<boolean> =>
  (await tx.query(lockLeaseStatement, [partitionId, token])).rows.length > 0;

/** The last id handed out, and who may still commit a message with it or a smaller one. */
export interface HorizonReading {
  readonly lastId: bigint;
  readonly writers: readonly string[];
}

const horizonStatement: Statement = {
  name: "outbox_horizon",
  text: `select last_id as "lastId", writers from outbox_horizon()`,
};

export const readHorizon = async (db: Queryable): Promise<HorizonReading | null> =>
  (await db.query<HorizonReading>(horizonStatement)).rows[0] ?? null;

const nextDueStatement: Statement = {
  name: "outbox_next_due",
  text: "select outbox_next_due($1) as ms",
};

/** Milliseconds until a back-off ends, a parked key resumes or a lease runs out; null when nothing waits. */
export const readNextDue = async (db: Queryable, queues: readonly string[]): Promise<number | null> =>
  (await db.query<{ ms: number | null }>(nextDueStatement, [queues])).rows[0]?.ms ?? null;

export interface Depth {
  readonly queue: string;
  readonly backlog: number;
  readonly oldestAgeSecs: number;
  readonly dead: number;
  /** Since the oldest of them was given up. */
  readonly deadOldestAgeSecs: number;
  /** Partitions with messages below the bound where claims start: none, or something is broken. */
  readonly stranded: readonly number[];
}

// One pass over the messages whatever the plan: counting per partition flips to reading the whole table
// once per partition. The oldest message is taken from the heads: ids ascend, created_at has no index.
const depthStatement: Statement = {
  name: "outbox_depth",
  text: `
    with waiting as (
      select
        m.partition_id,
        count(*) as backlog,
        min(m.id) as head,
        min(m.id) filter (where k.order_key is null) as free_head
      from outbox_message m
      left join outbox_parked k on k.partition_id = m.partition_id and k.order_key = m.order_key
      group by m.partition_id
    ),
    dead as (
      select d.queue, count(*) as letters, min(d.last_failed_at) as last_failed_at
      from outbox_dead d
      where d.status = 'pending'
      group by d.queue
    )
    select
      p.queue,
      coalesce(sum(w.backlog), 0)::float8 as "backlog",
      coalesce(max(extract(epoch from now() - h.created_at)), 0)::float8 as "oldestAgeSecs",
      coalesce(max(d.letters), 0)::float8 as "dead",
      coalesce(max(extract(epoch from now() - d.last_failed_at)), 0)::float8 as "deadOldestAgeSecs",
      coalesce(array_agg(p.id) filter (where w.head < p.scan_from or w.free_head < p.read_from), '{}')
        as "stranded"
    from outbox_partition p
    left join waiting w on w.partition_id = p.id
    left join outbox_message h on h.partition_id = w.partition_id and h.id = w.head
    left join dead d on d.queue = p.queue
    where p.queue = any ($1)
    group by p.queue`,
};

/** Backlog and dead letters of each queue, for the gauges. */
export const readDepth = async (db: Queryable, queues: readonly string[]): Promise<Depth[]> =>
  (await db.query<Depth>(depthStatement, [queues])).rows;

/** Makes claims of these partitions look at all their messages again. */
export const resetScans = async (db: Db, partitionIds: readonly number[]): Promise<void> => {
  await inTransaction(db, (tx) =>
    tx.query("update outbox_partition set scan_from = 0, read_from = 0 where id = any ($1)", [partitionIds]),
  );
};

/** Partition ids of every queue, by partition number. */
export type PartitionMap = Readonly<Record<QueueKind, readonly number[]>>;
