import type { Actor } from "../auth/actor.ts";
import type { Queryable, Statement } from "../db/pool.ts";
import { invariant } from "../lib/assert.ts";
import type { Balances, Period } from "./cascade.ts";
import type { PeriodStarts } from "./periods.ts";
import { type BalanceRow, type Bucket, byPeriod, periodsFrom } from "./store.ts";

// The outer join tells the current day even to a user without rows.
const selectCurrent: Statement = {
  name: "quota_select_current",
  text: `
    select
      p.period_type as period, p.period_start as "periodStart", q.bucket,
      coalesce(q.spent_credits_micro, 0) as "spentCreditsMicro",
      coalesce(q.reserved_credits_micro, 0) as "reservedCreditsMicro"
    from ${periodsFrom("select now()")}
    left join quota_usage q
      on q.tenant_id = $1
      and q.user_id = $2
      and q.period_type = p.period_type
      and q.period_start = p.period_start`,
};

interface CurrentRow extends BalanceRow {
  periodStart: string;
  bucket: Bucket | null;
}

/** Where a user stands in the two current periods. */
export interface CurrentUsage {
  readonly periods: PeriodStarts;
  readonly balances: Balances;
}

/** The rows of the current UTC day and month, by the database's clock (quota.md §10). */
export const readCurrentUsage = async (db: Queryable, actor: Actor): Promise<CurrentUsage> => {
  const { rows } = await db.query<CurrentRow>(selectCurrent, [actor.tenantId, actor.userId]);
  const startOf = (period: Period): string => {
    const row = rows.find((one) => one.period === period);
    invariant(row !== undefined, "a current period is missing");
    return row.periodStart;
  };
  return {
    periods: { daily: startOf("daily"), monthly: startOf("monthly") },
    balances: {
      total: byPeriod(rows.filter((row) => row.bucket === "total")),
      premium: byPeriod(rows.filter((row) => row.bucket === "tier:premium")),
    },
  };
};
