import type { Actor, TenantId, UserId } from "../auth/actor.ts";
import type { Statement } from "../db/pool.ts";
import type { Tx } from "../db/tx.ts";
import { invariant } from "../lib/assert.ts";
import { type Balance, type Balances, type Period, periods, type Tier, zeroBalance } from "./cascade.ts";
import type { PeriodStarts } from "./periods.ts";
import type { SettlementMethod } from "./settle.ts";

/**
 * All SQL of `quota_usage` but the status read (see `status-store.ts`); every lookup is served by `quota_usage_period_key`. Rows are touched in
 * one order everywhere, total daily, total monthly, premium daily, premium monthly: the first is the
 * mutex of the user's day (quota.md §6.6).
 */

export type Bucket = "total" | "tier:premium";

/** Both periods of an instant, as a table `p`. */
export const periodsFrom = (instant: string): string => `(
      select p.period_type, p.period_start
      from (select (${instant}) at time zone 'UTC' as utc) as clock
      cross join lateral (values
        ('daily', clock.utc::date),
        ('monthly', date_trunc('month', clock.utc)::date)
      ) as p (period_type, period_start)
    ) as p`;

// A turn that does not exist gives null periods, which an insert refuses: no write can miss its rows.
const periodsOfTurn = periodsFrom("select started_at from chat_turns where id = $1 and tenant_id = $2");

const joinUsage = `join quota_usage q
      on q.tenant_id = $2
      and q.user_id = $3
      and q.period_type = p.period_type
      and q.period_start = p.period_start`;

const insertZeros: Statement = {
  name: "quota_insert_zeros",
  text: `
    insert into quota_usage (tenant_id, user_id, period_type, period_start, bucket, updated_at)
    select $2::uuid, $3::uuid, p.period_type, p.period_start, 'total', now()
    from ${periodsOfTurn}
    order by p.period_type
    on conflict (tenant_id, user_id, period_type, period_start, bucket) do nothing`,
};

// Locking comes above the ordering in the plan, by sort or by index: 'daily' first.
const lockTotals: Statement = {
  name: "quota_lock_totals",
  text: `
    select
      q.period_type as period, q.period_start as "periodStart",
      q.spent_credits_micro as "spentCreditsMicro", q.reserved_credits_micro as "reservedCreditsMicro",
      q.web_search_calls as "webSearchCalls", q.code_interpreter_calls as "codeInterpreterCalls",
      q.image_inputs as "imageInputs"
    from ${periodsOfTurn}
    ${joinUsage}
      and q.bucket = 'total'
    order by p.period_type
    for update of q`,
};

// A statement of its own behind the lock, so that its snapshot has everything the mutex protects.
const selectPremium: Statement = {
  name: "quota_select_premium",
  text: `
    select
      q.period_type as period,
      q.spent_credits_micro as "spentCreditsMicro", q.reserved_credits_micro as "reservedCreditsMicro"
    from ${periodsOfTurn}
    ${joinUsage}
      and q.bucket = 'tier:premium'`,
};

export interface BalanceRow extends Balance {
  period: Period;
}

interface TotalRow extends BalanceRow, DailyCounters {
  periodStart: string;
}

/** What today's daily quotas are checked against (quota.md §8). */
export interface DailyCounters {
  readonly webSearchCalls: number;
  readonly codeInterpreterCalls: number;
  readonly imageInputs: number;
}

/** The rows of a new turn's periods, held until the end of the transaction. */
export interface LockedQuota {
  readonly periods: PeriodStarts;
  readonly balances: Balances;
  readonly today: DailyCounters;
}

/** The balances of one bucket's rows. */
export const byPeriod = (rows: readonly BalanceRow[]): Readonly<Record<Period, Balance>> => {
  const of = (period: Period): Balance => {
    const row = rows.find((one) => one.period === period);
    return row === undefined
      ? zeroBalance
      : { spentCreditsMicro: row.spentCreditsMicro, reservedCreditsMicro: row.reservedCreditsMicro };
  };
  return { daily: of("daily"), monthly: of("monthly") };
};

/**
 * Locks and reads the rows of the turn inserted before in this transaction (quota.md §6.6 steps 2–4),
 * its periods taken from its `started_at`. Three statements, issued before the first await.
 */
export const lockQuotaRows = async (tx: Tx, actor: Actor, turnId: string): Promise<LockedQuota> => {
  const key = [turnId, actor.tenantId, actor.userId];
  const [, totals, premium] = await Promise.all([
    tx.query(insertZeros, key),
    tx.query<TotalRow>(lockTotals, key),
    tx.query<BalanceRow>(selectPremium, key),
  ]);
  const [daily, monthly] = totals.rows;
  invariant(daily?.period === "daily" && monthly?.period === "monthly", "quota rows are not there");
  const { webSearchCalls, codeInterpreterCalls, imageInputs } = daily;
  return {
    periods: { daily: daily.periodStart, monthly: monthly.periodStart },
    balances: { total: byPeriod(totals.rows), premium: byPeriod(premium.rows) },
    today: { webSearchCalls, codeInterpreterCalls, imageInputs },
  };
};

const addReserved: Statement = {
  name: "quota_add_reserve",
  text: `
    insert into quota_usage as q (
      tenant_id, user_id, period_type, period_start, bucket, reserved_credits_micro, image_inputs, updated_at
    )
    select $1::uuid, $2::uuid, r.period_type, r.period_start, r.bucket, $6::bigint, r.images, now()
    from (values
      (1, 'daily', $3::date, 'total', $7::int),
      (2, 'monthly', $4::date, 'total', $7::int),
      (3, 'daily', $3::date, 'tier:premium', 0),
      (4, 'monthly', $4::date, 'tier:premium', 0)
    ) as r (place, period_type, period_start, bucket, images)
    where r.bucket = 'total'
      or $5::text = 'premium'
    order by r.place
    on conflict (tenant_id, user_id, period_type, period_start, bucket) do update set
      reserved_credits_micro = q.reserved_credits_micro + excluded.reserved_credits_micro,
      image_inputs = q.image_inputs + excluded.image_inputs,
      updated_at = excluded.updated_at`,
};

/** What an admitted turn adds to the rows it has locked. */
export interface ReserveRows {
  /** Of `LockedQuota`. */
  readonly periods: PeriodStarts;
  readonly tier: Tier;
  readonly reservedCreditsMicro: bigint;
  /** Images sent with the message; counted here and never given back (quota.md §8). */
  readonly images: number;
}

/** Holds the reserve (quota.md §6.6 step 6): one statement, issued before the first await. */
export const addReserve = async (tx: Tx, actor: Actor, rows: ReserveRows): Promise<void> => {
  await tx.query(addReserved, [
    actor.tenantId,
    actor.userId,
    rows.periods.daily,
    rows.periods.monthly,
    rows.tier,
    rows.reservedCreditsMicro,
    rows.images,
  ]);
};

const settle: Statement = {
  name: "quota_settle",
  text: `
    insert into quota_usage as q (
      tenant_id, user_id, period_type, period_start, bucket, spent_credits_micro, calls,
      input_tokens, output_tokens, web_search_calls, code_interpreter_calls, file_search_calls, updated_at
    )
    select
      $2::uuid, $3::uuid, p.period_type, p.period_start, b.bucket, $6::bigint, 1,
      b.counted * $7::bigint, b.counted * $8::bigint,
      b.counted * $9::int, b.counted * $10::int, b.counted * $11::int, now()
    from ${periodsOfTurn}
    cross join (values (0, 'total', 1), (1, 'tier:premium', 0)) as b (place, bucket, counted)
    where b.bucket = 'total'
      or $4::text = 'premium'
    order by b.place, p.period_type
    on conflict (tenant_id, user_id, period_type, period_start, bucket) do update set
      spent_credits_micro = q.spent_credits_micro + excluded.spent_credits_micro,
      reserved_credits_micro = greatest(q.reserved_credits_micro - $5::bigint, 0),
      calls = q.calls + excluded.calls,
      input_tokens = q.input_tokens + excluded.input_tokens,
      output_tokens = q.output_tokens + excluded.output_tokens,
      web_search_calls = q.web_search_calls + excluded.web_search_calls,
      code_interpreter_calls = q.code_interpreter_calls + excluded.code_interpreter_calls,
      file_search_calls = q.file_search_calls + excluded.file_search_calls,
      updated_at = excluded.updated_at`,
};

/** One turn's effect on its rows (quota.md §7.3); credits in micro-credits. */
export interface QuotaSettlement {
  readonly tenantId: TenantId;
  readonly userId: UserId;
  readonly turnId: string;
  readonly tier: Tier;
  readonly method: SettlementMethod;
  readonly reservedCreditsMicro: bigint;
  readonly committedCreditsMicro: bigint;
  /** As reported, uncapped; 0 unless the method is `actual`. */
  readonly inputTokens: bigint;
  readonly outputTokens: bigint;
  /** Completed calls; a released turn counts none. */
  readonly toolCounts: {
    readonly webSearch: number;
    readonly codeInterpreter: number;
    readonly fileSearch: number;
  };
}

/** A row that was lost, or held less than the reserve to be given back; the turn is charged all the same. */
export interface QuotaAnomaly {
  readonly period: Period;
  readonly bucket: Bucket;
  readonly kind: "missing_row" | "underflow";
}

/**
 * Gives the reserve back and charges the turn. The rows are locked and read first, because an upsert
 * cannot tell what it clamped. Two statements, three for a premium turn, issued before the first await.
 */
export const settleQuota = async (tx: Tx, turn: QuotaSettlement): Promise<readonly QuotaAnomaly[]> => {
  const key = [turn.turnId, turn.tenantId, turn.userId];
  const { webSearch, codeInterpreter, fileSearch } =
    turn.method === "released" ? { webSearch: 0, codeInterpreter: 0, fileSearch: 0 } : turn.toolCounts;
  const totals = tx.query<BalanceRow>(lockTotals, key);
  const premium = turn.tier === "premium" ? tx.query<BalanceRow>(selectPremium, key) : null;
  const settled = tx.query(settle, [
    ...key,
    turn.tier,
    turn.reservedCreditsMicro,
    turn.committedCreditsMicro,
    turn.inputTokens,
    turn.outputTokens,
    webSearch,
    codeInterpreter,
    fileSearch,
  ]);
  const [total, sub] = await Promise.all([totals, premium, settled]);
  const { reservedCreditsMicro } = turn;
  return [
    ...anomaliesOf("total", total.rows, reservedCreditsMicro),
    ...(sub === null ? [] : anomaliesOf("tier:premium", sub.rows, reservedCreditsMicro)),
  ];
};

const anomaliesOf = (bucket: Bucket, rows: readonly BalanceRow[], reserved: bigint): QuotaAnomaly[] =>
  periods.flatMap((period): QuotaAnomaly[] => {
    const row = rows.find((one) => one.period === period);
    if (row === undefined) return [{ period, bucket, kind: "missing_row" }];
    return row.reservedCreditsMicro < reserved ? [{ period, bucket, kind: "underflow" }] : [];
  });
