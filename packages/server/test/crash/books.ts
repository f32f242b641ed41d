import { readFileSync } from "node:fs";
import type { Db } from "../../src/db/pool.ts";

/** A usage event as its consumer gets it; the fields the tests look at. */
export interface UsageEvent {
  readonly dedupe_key: string;
  readonly turn_id: string;
  readonly request_id: string;
  readonly actual_credits_micro: number;
  readonly [field: string]: unknown;
}

/** A row of `quota_usage`. */
export interface BookRow {
  /** `tenant user bucket period start`. */
  readonly row: string;
  readonly spent: bigint;
  readonly reserved: bigint;
  readonly calls: number;
}

export interface Books {
  /** What the rows say. */
  readonly stored: readonly BookRow[];
  /** What they must say by the usage events alone when no turn runs. */
  readonly due: readonly BookRow[];
  /** Published or still in the outbox, one for each dedupe key. */
  readonly events: readonly UsageEvent[];
}

const usageQueue = "mini-chat.usage_snapshot";

export const usageQueueIsEmpty = async (db: Db): Promise<boolean> =>
  (await readWaitingUsage(db)).length === 0;

/** The usage events not yet delivered, oldest first. */
export const readWaitingUsage = async (db: Db): Promise<UsageEvent[]> => {
  const { rows } = await db.query<{ payload: string }>(
    `select m.payload
     from outbox_message m
     join outbox_partition p on p.id = m.partition_id
     where p.queue = $1
     order by m.id`,
    [usageQueue],
  );
  return rows.map(({ payload }) => JSON.parse(payload) as UsageEvent);
};

const publishedEvents = (file: string): UsageEvent[] => {
  const text = readFileSync(file, { encoding: "utf8", flag: "a+" });
  return text
    .split("\n")
    .filter((line) => line !== "")
    .map((line) => (JSON.parse(line) as { event: UsageEvent }).event);
};

/** The account of every user and period, as stored and as the usage events determine it (quota.md §16). */
export const readBooks = async (db: Db, usageFile: string): Promise<Books> => {
  // In this order: what is delivered between the two looks is found by both.
  const waiting = await readWaitingUsage(db);
  const all = [...publishedEvents(usageFile), ...waiting];
  const events = [...new Map(all.map((event) => [event.dedupe_key, event])).values()];
  return { stored: await storedRows(db), due: await dueRows(db, events), events };
};

const byRow = (a: BookRow, b: BookRow): number => (a.row < b.row ? -1 : 1);

const storedRows = async (db: Db): Promise<BookRow[]> => {
  const { rows } = await db.query<BookRow>(
    `select
       concat_ws(' ', tenant_id, user_id, bucket, period_type, period_start) as row,
       spent_credits_micro as spent, reserved_credits_micro as reserved, calls
     from quota_usage`,
  );
  return rows.sort(byRow);
};

interface TurnKeys {
  readonly id: string;
  readonly user: string;
  readonly premium: boolean;
  readonly day: string;
  readonly month: string;
}

const dueRows = async (db: Db, events: readonly UsageEvent[]): Promise<BookRow[]> => {
  const { rows: turns } = await db.query<TurnKeys>(
    `select
       id, concat_ws(' ', tenant_id, requester_user_id) as "user", effective_tier = 'premium' as premium,
       (started_at at time zone 'UTC')::date as day,
       date_trunc('month', started_at at time zone 'UTC')::date as month
     from chat_turns`,
  );
  const byId = new Map(turns.map((turn) => [turn.id, turn]));
  const rows = new Map<string, BookRow>();
  for (const event of events) {
    const turn = byId.get(event.turn_id);
    if (turn === undefined) throw new Error(`a usage event of no turn: ${event.turn_id}`);
    for (const bucket of turn.premium ? ["total", "tier:premium"] : ["total"]) {
      for (const period of [`daily ${turn.day}`, `monthly ${turn.month}`]) {
        const row = `${turn.user} ${bucket} ${period}`;
        const { spent, calls } = rows.get(row) ?? { spent: 0n, calls: 0 };
        const credits = BigInt(event.actual_credits_micro);
        rows.set(row, { row, spent: spent + credits, reserved: 0n, calls: calls + 1 });
      }
    }
  }
  return [...rows.values()].sort(byRow);
};
