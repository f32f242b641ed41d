import type { TenantId } from "../auth/actor.ts";
import type { Queryable, Statement } from "../db/pool.ts";
import type { Tx } from "../db/tx.ts";
import { invariant } from "../lib/assert.ts";

/** All SQL of `policy_snapshots` (policy.md §9). A stored version never changes. */

const select: Statement = {
  name: "policy_snapshot_select",
  text: `
    select snapshot
    from policy_snapshots
    where tenant_id = $1
      and policy_version = $2`,
};

/** The stored document of a version; null when there is none. */
export const findSnapshot = async (
  db: Queryable,
  tenantId: TenantId,
  version: bigint,
): Promise<{ readonly document: unknown } | null> => {
  const { rows } = await db.query<{ snapshot: unknown }>(select, [tenantId, version]);
  return rows[0] === undefined ? null : { document: rows[0].snapshot };
};

const insert: Statement = {
  name: "policy_snapshot_insert",
  text: `
    insert into policy_snapshots (tenant_id, policy_version, snapshot, fetched_at)
    values ($1, $2, $3::jsonb, now())
    on conflict do nothing`,
};

const compare: Statement = {
  name: "policy_snapshot_compare",
  text: `
    select snapshot, snapshot = $3::jsonb as same
    from policy_snapshots
    where tenant_id = $1
      and policy_version = $2`,
};

/**
 * Stores a version unless it is there. Returns what the table holds now and whether it is what was
 * given; jsonb compares by value, so neither the order of keys nor the spelling of numbers matters.
 */
export const insertSnapshot = async (
  tx: Tx,
  tenantId: TenantId,
  version: bigint,
  document: string,
): Promise<{ readonly same: boolean; readonly document: unknown }> => {
  const values = [tenantId, version, document];
  const [, { rows }] = await Promise.all([
    tx.query(insert, values),
    tx.query<{ snapshot: unknown; same: boolean }>(compare, values),
  ]);
  const [row] = rows;
  invariant(row !== undefined, "a snapshot just inserted, or in the way of it, is there");
  return { same: row.same, document: row.snapshot };
};

const selectExpired: Statement = {
  name: "policy_snapshots_expired",
  text: `
    select s.tenant_id as "tenantId", s.policy_version as version
    from policy_snapshots s
    where s.fetched_at < now() - make_interval(days => $1)
      and exists (
        select 1
        from policy_snapshots newer
        where newer.tenant_id = s.tenant_id
          and newer.policy_version > s.policy_version
      )
    limit $2`,
};

/** Versions of all tenants past their retention (data.md §4), ids only; the newest of a tenant never is. */
export const findExpiredSnapshots = async (
  db: Queryable,
  retentionDays: number,
  limit: number,
): Promise<{ readonly tenantId: TenantId; readonly version: bigint }[]> =>
  (await db.query<{ tenantId: TenantId; version: bigint }>(selectExpired, [retentionDays, limit])).rows;

const remove: Statement = {
  name: "policy_snapshot_delete",
  text: `
    delete from policy_snapshots
    where tenant_id = $1
      and policy_version = $2`,
};

/** Removes a version found by `findExpiredSnapshots`; versions are only added above, so it still is expired. */
export const deleteSnapshot = async (tx: Tx, tenantId: TenantId, version: bigint): Promise<void> => {
  await tx.query(remove, [tenantId, version]);
};
