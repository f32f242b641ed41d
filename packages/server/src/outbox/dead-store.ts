import type { Queryable, Statement } from "../db/pool.ts";
import {
  type DeadFilter,
  type DeadGroup,
  type DeadLetter,
  type DeadPosition,
  fromStoredStatus,
  toStoredStatus,
} from "./dead-letter.ts";

/** Reads of `outbox_dead` for operators, who see all tenants; see `dead-change-store.ts` for changes. */

export interface DeadRow extends Omit<DeadLetter, "status"> {
  readonly status: string;
}

export const deadColumns = (withPayload: boolean): string => `
      d.id, d.queue, d.partition_id as "partitionId", d.message_id as "messageId",
      d.tenant_id as "tenantId", d.order_key as "orderKey", d.kind, d.trace,
      d.created_at as "createdAt", d.attempts, d.first_failed_at as "firstFailedAt",
      d.last_failed_at as "lastFailedAt", d.error, d.fingerprint, d.status, d.deadline,
      d.replay_count as "replayCount", d.completed_at as "completedAt",
      d.completed_by as "completedBy", d.rejected_by as "rejectedBy",
      d.reject_reason as "rejectReason", ${withPayload ? "d.payload" : "null as payload"}`;

export const toLetter = (row: DeadRow): DeadLetter => ({ ...row, status: fromStoredStatus(row.status) });

/** Collects the values of a statement that is put together; `bind` gives the placeholder of one. */
export const placeholders = () => {
  const values: unknown[] = [];
  return {
    values,
    bind: (value: unknown): string => {
      values.push(value);
      return `$${values.length}`;
    },
  };
};

type Bind = (value: unknown) => string;

// Put together instead of `$1 is null or …`, so that the planner sees which index fits.
export const deadConditions = (filter: DeadFilter, bind: Bind): string => {
  const { queue, partitionId, kind, tenantId, fingerprint, status = "pending" } = filter;
  const parts = [
    status === "all" ? undefined : `d.status = ${bind(toStoredStatus(status))}`,
    queue === undefined ? undefined : `d.queue = ${bind(queue)}`,
    partitionId === undefined ? undefined : `d.partition_id = ${bind(partitionId)}`,
    kind === undefined ? undefined : `d.kind = ${bind(kind)}`,
    tenantId === undefined ? undefined : `d.tenant_id = ${bind(tenantId)}`,
    fingerprint === undefined ? undefined : `d.fingerprint = ${bind(fingerprint)}`,
  ].filter((part) => part !== undefined);
  return parts.length === 0 ? "true" : parts.join("\n      and ");
};

export interface DeadListOptions {
  readonly limit: number;
  readonly after?: DeadPosition | undefined;
  readonly withPayload: boolean;
}

/** Newest failures first; index: outbox_dead_status_idx. */
export const listDead = async (
  db: Queryable,
  filter: DeadFilter,
  { limit, after, withPayload }: DeadListOptions,
): Promise<DeadLetter[]> => {
  const { values, bind } = placeholders();
  const further =
    after === undefined
      ? ""
      : `
      and (d.last_failed_at, d.id) < (${bind(after.lastFailedAt)}::timestamptz, ${bind(after.id)}::bigint)`;
  const { rows } = await db.query<DeadRow>(
    `
    select ${deadColumns(withPayload)}
    from outbox_dead d
    where ${deadConditions(filter, bind)}${further}
    order by d.last_failed_at desc, d.id desc
    limit ${bind(limit)}`,
    values,
  );
  return rows.map(toLetter);
};

export const countDead = async (db: Queryable, filter: DeadFilter): Promise<number> => {
  const { values, bind } = placeholders();
  const { rows } = await db.query<{ letters: bigint }>(
    `
    select count(*) as letters
    from outbox_dead d
    where ${deadConditions(filter, bind)}`,
    values,
  );
  return Number(rows[0]?.letters ?? 0);
};

interface GroupRow extends Omit<DeadGroup, "status" | "letters"> {
  readonly status: string;
  readonly letters: bigint;
}

/** The largest groups of one cause. */
export const groupDead = async (db: Queryable, filter: DeadFilter, limit: number): Promise<DeadGroup[]> => {
  const { values, bind } = placeholders();
  const { rows } = await db.query<GroupRow>(
    `
    with cause as (
      select
        d.queue, d.status, d.fingerprint, count(*) as letters,
        min(d.first_failed_at) as oldest_at, max(d.last_failed_at) as newest_at, max(d.id) as newest
      from outbox_dead d
      where ${deadConditions(filter, bind)}
      group by d.queue, d.status, d.fingerprint
      order by letters desc, d.queue, d.fingerprint
      limit ${bind(limit)}
    )
    select
      c.queue, c.status, c.fingerprint, c.letters, c.oldest_at as "oldestAt", c.newest_at as "newestAt",
      n.error
    from cause c
    join outbox_dead n on n.id = c.newest
    order by c.letters desc, c.queue, c.fingerprint`,
    values,
  );
  return rows.map((row) => ({ ...row, status: fromStoredStatus(row.status), letters: Number(row.letters) }));
};

const findStatement = (withPayload: boolean): Statement => ({
  name: withPayload ? "outbox_dead_find_payload" : "outbox_dead_find",
  text: `
    select ${deadColumns(withPayload)}
    from outbox_dead d
    where d.id = $1`,
});

export const findDead = async (
  db: Queryable,
  id: bigint,
  withPayload: boolean,
): Promise<DeadLetter | null> => {
  const [row] = (await db.query<DeadRow>(findStatement(withPayload), [id])).rows;
  return row === undefined ? null : toLetter(row);
};

/** Up to `limit` ids that fit, ascending, above `above` and up to `upTo`. */
export const nextDeadIds = async (
  db: Queryable,
  filter: DeadFilter,
  range: { readonly above: bigint; readonly upTo: bigint; readonly limit: number },
): Promise<bigint[]> => {
  const { values, bind } = placeholders();
  const { rows } = await db.query<{ id: bigint }>(
    `
    select d.id
    from outbox_dead d
    where ${deadConditions(filter, bind)}
      and d.id > ${bind(range.above)}
      and d.id <= ${bind(range.upTo)}
    order by d.id
    limit ${bind(range.limit)}`,
    values,
  );
  return rows.map(({ id }) => id);
};

const newestStatement: Statement = {
  name: "outbox_dead_newest",
  text: `
    select coalesce(max(id), 0) as id
    from outbox_dead`,
};

export const newestDeadId = async (db: Queryable): Promise<bigint> =>
  (await db.query<{ id: bigint }>(newestStatement)).rows[0]?.id ?? 0n;

const statesStatement: Statement = {
  name: "outbox_dead_states",
  text: `
    select id, status
    from outbox_dead
    where id = any ($1)`,
};

/** The state of each of these that exists. */
export const readDeadStates = async (
  db: Queryable,
  ids: readonly bigint[],
): Promise<Map<bigint, DeadLetter["status"]>> => {
  const { rows } = await db.query<{ id: bigint; status: string }>(statesStatement, [ids]);
  return new Map(rows.map(({ id, status }) => [id, fromStoredStatus(status)]));
};

export interface DeadCount {
  readonly queue: string;
  readonly status: DeadLetter["status"];
  readonly letters: number;
}

const countsStatement: Statement = {
  name: "outbox_dead_counts",
  text: `
    select queue, status, count(*) as letters
    from outbox_dead
    group by queue, status`,
};

/** All dead letters, by queue and state. */
export const countDeadByState = async (db: Queryable): Promise<DeadCount[]> => {
  const { rows } = await db.query<{ queue: string; status: string; letters: bigint }>(countsStatement);
  return rows.map(({ queue, status, letters }) => ({
    queue,
    status: fromStoredStatus(status),
    letters: Number(letters),
  }));
};
