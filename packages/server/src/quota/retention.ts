import type { TenantId } from "../auth/actor.ts";
import type { Db, Statement } from "../db/pool.ts";
import { inTransaction } from "../db/tx.ts";

/** The days of rows whose time may be over, from an instant and a number of days, both SQL. */
export const keptFrom = (instant: string, days: string): string => `
      least(
        ((${instant}) at time zone 'UTC')::date - (${days})::int,
        (date_trunc('month', (${instant}) at time zone 'UTC') - interval '1 month')::date
      )`;

// Index: quota_usage_period_idx. A row that holds a reserve belongs to a turn that is not settled.
const isOver = `
      period_start < ${keptFrom("now()", "$1")}
      and reserved_credits_micro = 0`;

const scan: Statement = {
  name: "quota_scan_expired",
  text: `
    select id, tenant_id as "tenantId"
    from quota_usage
    where ${isOver}
    order by period_start
    limit $2`,
};

const remove: Statement = {
  name: "quota_delete_expired",
  text: `
    delete from quota_usage q
    using unnest($2::uuid[], $3::uuid[]) as old (id, tenant_id)
    where q.id = old.id
      and q.tenant_id = old.tenant_id
      and ${isOver}`,
};

const batchSize = 1_000;

/**
 * Deletes rows of periods that began more than `days` ago, never of the current or the previous month
 * (data.md §4), in batches until none is left or the signal fires. Returns how many.
 */
export const deleteExpiredUsage = async (db: Db, days: number, signal: AbortSignal): Promise<number> => {
  let deleted = 0;
  while (!signal.aborted) {
    const { rows } = await db.query<{ id: string; tenantId: TenantId }>(scan, [days, batchSize]);
    deleted += await inTransaction(db, async (tx) => {
      const values = [days, rows.map(({ id }) => id), rows.map(({ tenantId }) => tenantId)];
      return (await tx.query(remove, values)).rowCount;
    });
    if (rows.length < batchSize) break;
  }
  return deleted;
};
