import type { Timestamp } from "../db/pool.ts";
import type { Period } from "./cascade.ts";

/** First UTC day of each period, `YYYY-MM-DD`: the `period_start` of its rows (quota.md §5.2). */
export type PeriodStarts = Readonly<Record<Period, string>>;

/** When the period that began on this day ends and its successor begins: midnight UTC (quota.md §10). */
export const nextReset = (period: Period, start: string): Timestamp => {
  const next = new Date(`${start}T00:00:00Z`);
  if (period === "daily") next.setUTCDate(next.getUTCDate() + 1);
  else next.setUTCMonth(next.getUTCMonth() + 1, 1);
  return `${next.toISOString().slice(0, 10)}T00:00:00Z`;
};
