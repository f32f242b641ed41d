import type { Actor } from "../../src/auth/actor.ts";
import type { Queryable } from "../../src/db/pool.ts";

/** A row of `quota_usage`, as the tests look at it. */
export interface UsageRow {
  readonly bucket: "total" | "tier:premium";
  readonly period: "daily" | "monthly";
  readonly start: string;
  readonly spent: bigint;
  readonly reserved: bigint;
  readonly calls: number;
  readonly input: bigint;
  readonly output: bigint;
  readonly web: number;
  readonly code: number;
  readonly file: number;
  readonly images: number;
}

/** All rows of a user in the order they are locked in, older periods first. */
export const usageRows = async (db: Queryable, actor: Actor): Promise<UsageRow[]> =>
  (
    await db.query<UsageRow>(
      `select bucket, period_type as period, period_start as start, spent_credits_micro as spent,
         reserved_credits_micro as reserved, calls, input_tokens as input, output_tokens as output,
         web_search_calls as web, code_interpreter_calls as code, file_search_calls as file,
         image_inputs as images
       from quota_usage
       where tenant_id = $1 and user_id = $2
       order by bucket desc, period_type, period_start`,
      [actor.tenantId, actor.userId],
    )
  ).rows;

/** The one row of a bucket and period. */
export const usageRow = async (
  db: Queryable,
  actor: Actor,
  bucket: UsageRow["bucket"],
  period: UsageRow["period"],
): Promise<UsageRow> => {
  const [row, ...more] = (await usageRows(db, actor)).filter(
    (one) => one.bucket === bucket && one.period === period,
  );
  if (row === undefined || more.length > 0) throw new Error(`not one row: ${bucket} ${period}`);
  return row;
};

export interface Filled extends Partial<Omit<UsageRow, "bucket" | "period" | "start">> {
  readonly bucket: UsageRow["bucket"];
  readonly period: UsageRow["period"];
  /** Default: the period of the database's now. */
  readonly at?: string;
}

/** Puts rows of earlier turns in place. */
export const fillUsage = async (db: Queryable, actor: Actor, rows: readonly Filled[]): Promise<void> => {
  for (const row of rows) {
    await db.query(
      `insert into quota_usage (
         tenant_id, user_id, period_type, period_start, bucket, spent_credits_micro, reserved_credits_micro,
         calls, web_search_calls, image_inputs
       )
       values (
         $1, $2, $3::text,
         date_trunc(case $3::text when 'daily' then 'day' else 'month' end, coalesce($4::timestamptz, now()), 'UTC'),
         $5, $6, $7, $8, $9, $10
       )`,
      [
        actor.tenantId,
        actor.userId,
        row.period,
        row.at ?? null,
        row.bucket,
        row.spent ?? 0n,
        row.reserved ?? 0n,
        row.calls ?? 0,
        row.web ?? 0,
        row.images ?? 0,
      ],
    );
  }
};
