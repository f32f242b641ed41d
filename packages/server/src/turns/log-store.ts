import type { TenantId } from "../auth/actor.ts";
import type { Queryable, Statement } from "../db/pool.ts";
import type { Tx } from "../db/tx.ts";
import { stringifyJson } from "../lib/json.ts";
import type { StreamEvent } from "./grammar.ts";
import type { TurnState } from "./turn.ts";

/**
 * All SQL of `turn_events`, the log a stream is resumed from (turns.md §16.2). The place of an event
 * is its primary key: of two writers of the same place one fails, so that whoever ends a turn closes
 * its log by taking the next place, and nothing can be written behind the end.
 */

/** An event that has its place in the log. */
export type LoggedEvent = StreamEvent & { readonly seq: number };

/** What of a turn's stream is not known to be in its log, and the place behind it. */
export interface LogTail {
  readonly events: readonly LoggedEvent[];
  readonly nextSeq: number;
}

// The commit does not wait for the disk: a lost process loses nothing by that, and the first token does
// not wait either (0.07 ms against 1.2 ms). What a crash of the server takes is noticed by its gap.
const append: Statement = {
  name: "turn_log_append",
  text: `
    insert into turn_events (turn_id, seq, event, data, tenant_id)
    select $1, e.seq, e.event, e.data, $2
    from
      (select set_config('synchronous_commit', 'off', true)) as quick,
      unnest($3::int[], $4::varchar[], $5::jsonb[]) as e (seq, event, data)`,
};

// Within the transaction that begins or ends the turn. What an append whose answer was lost had written is
// there already; nobody else can have, since the turn was still running.
const appendWith: Statement = {
  name: "turn_log_append_with",
  text: `
    insert into turn_events (turn_id, seq, event, data, tenant_id)
    select $1, e.seq, e.event, e.data, $2
    from unnest($3::int[], $4::varchar[], $5::jsonb[]) as e (seq, event, data)
    on conflict (turn_id, seq) do nothing`,
};

// As the above, but somebody else may have written: then this transaction must not commit.
const appendAlone: Statement = {
  name: "turn_log_append_alone",
  text: `
    insert into turn_events (turn_id, seq, event, data, tenant_id)
    select $1, e.seq, e.event, e.data, $2
    from unnest($3::int[], $4::varchar[], $5::jsonb[]) as e (seq, event, data)`,
};

interface LoggedTurn {
  readonly id: string;
  readonly tenantId: TenantId;
}

const valuesOf = (turn: LoggedTurn, events: readonly LoggedEvent[]): unknown[] => [
  turn.id,
  turn.tenantId,
  events.map(({ seq }) => seq),
  events.map(({ event }) => event),
  events.map(({ data }) => storable(stringifyJson(data))),
];

// An escaped NUL, which `jsonb` does not take; a preceding backslash is one that is escaped itself.
const escapedNul = /(?<=(?:^|[^\\])(?:\\\\)*)\\u0000/g;

// Whole pairs are written as they are: what is escaped is half a character.
const escapedHalf = /(?<=(?:^|[^\\])(?:\\\\)*)\\ud[89a-f][0-9a-f]{2}/g;

/** JSON as `jsonb` takes it: without U+0000, and without halves of characters. */
const storable = (json: string): string =>
  json.includes("\\u0000") || json.includes("\\ud")
    ? json.replaceAll(escapedNul, "").replaceAll(escapedHalf, "\\ufffd")
    : json;

/** Appends to the log of a running turn. Throws a unique violation when the log was closed meanwhile. */
export const appendEvents = async (
  db: Queryable,
  turn: LoggedTurn,
  events: readonly LoggedEvent[],
): Promise<void> => {
  await db.query(append, valuesOf(turn, events));
};

/** Begins the log in transaction 1, or ends it in transaction 2. */
export const appendWithin = (
  tx: Tx,
  turn: LoggedTurn,
  events: readonly LoggedEvent[],
  writer: "owner" | "watchdog",
): Promise<unknown> => tx.query(writer === "owner" ? appendWith : appendAlone, valuesOf(turn, events));

const selectEvent: Statement = {
  name: "turn_log_event",
  text: `
    select event
    from turn_events
    where turn_id = $1
      and tenant_id = $2
      and seq = $3`,
};

/** The name of the event in this place; null when it is empty. */
export const findLoggedEvent = async (db: Queryable, turn: LoggedTurn, seq: number): Promise<string | null> =>
  (await db.query<{ event: string }>(selectEvent, [turn.id, turn.tenantId, seq])).rows[0]?.event ?? null;

// One statement, one snapshot: the end of a turn and the end of its log are seen together or not at all.
const selectAfter: Statement = {
  name: "turn_log_after",
  text: `
    select t.state, e.seq, e.event, e.data
    from chat_turns t
    left join lateral (
      select l.seq, l.event, l.data
      from turn_events l
      where l.turn_id = t.id
        and l.tenant_id = t.tenant_id
        and l.seq > $3
      order by l.seq
      limit $4
    ) e on true
    where t.id = $1
      and t.tenant_id = $2
    order by e.seq`,
};

interface AfterRow {
  state: TurnState;
  seq: number | null;
  event: StreamEvent["event"] | null;
  data: never;
}

/** Up to `limit` events behind a place, in order, and how the turn stands; null when it does not exist. */
export const readEventsAfter = async (
  db: Queryable,
  turn: LoggedTurn,
  after: number,
  limit: number,
): Promise<{ readonly state: TurnState; readonly events: readonly LoggedEvent[] } | null> => {
  const { rows } = await db.query<AfterRow>(selectAfter, [turn.id, turn.tenantId, after, limit]);
  const [first] = rows;
  if (first === undefined) return null;
  const events = rows.flatMap(({ seq, event, data }) =>
    seq === null || event === null ? [] : [{ seq, event, data }],
  );
  return { state: first.state, events };
};

const selectForResume: Statement = {
  name: "turn_for_resume",
  text: `
    select
      t.id, t.request_id as "requestId", t.state, t.deleted_at is not null as "deleted",
      t.error_code as "errorCode", t.assistant_message_id as "assistantMessageId",
      t.effective_model as "effectiveModel",
      (
        select max(l.seq)
        from turn_events l
        where l.turn_id = t.id
          and l.tenant_id = t.tenant_id
      ) as "lastSeq",
      (
        select l.data
        from turn_events l
        where l.turn_id = t.id
          and l.tenant_id = t.tenant_id
          and l.seq = 0
      ) as "started"
    from chat_turns t
    where t.chat_id = $1
      and t.tenant_id = $2
      and t.request_id = $3`,
};

/** What resuming a stream looks at. */
export interface TurnForResume {
  readonly id: string;
  readonly requestId: string;
  readonly state: TurnState;
  readonly deleted: boolean;
  readonly errorCode: string | null;
  readonly assistantMessageId: string | null;
  readonly effectiveModel: string | null;
  /** The last place of its log; null when it has none, or none any more. */
  readonly lastSeq: number | null;
  /** The first event of its log. */
  readonly started: Extract<StreamEvent, { event: "stream_started" }>["data"] | null;
}

/** A turn of an already loaded chat with the state of its log; null when the chat has no such turn. */
export const findTurnForResume = async (
  db: Queryable,
  tenantId: TenantId,
  chatId: string,
  requestId: string,
): Promise<TurnForResume | null> =>
  (await db.query<TurnForResume>(selectForResume, [chatId, tenantId, requestId])).rows[0] ?? null;

const selectWhole: Statement = {
  name: "turn_log_whole",
  text: `
    select
      max(seq) as "lastSeq",
      count(*) = max(seq) + 1 as "complete",
      max(data ->> 'message_id') filter (where seq = 0) as "messageId",
      coalesce(
        string_agg(data ->> 'content', '' order by seq) filter (where event = 'delta' and data ->> 'type' = 'text'),
        ''
      ) as "text"
    from turn_events
    where turn_id = $1
      and tenant_id = $2`,
};

/** What a log holds of the answer; `complete` is false when places are missing. */
export interface LogSummary {
  readonly lastSeq: number;
  readonly complete: boolean;
  readonly messageId: string | null;
  readonly text: string;
}

/** Null when the turn has no log. */
export const readLog = async (db: Queryable, turn: LoggedTurn): Promise<LogSummary | null> => {
  const { rows } = await db.query<Omit<LogSummary, "lastSeq"> & { lastSeq: number | null }>(selectWhole, [
    turn.id,
    turn.tenantId,
  ]);
  const [row] = rows;
  return row === undefined || row.lastSeq === null ? null : { ...row, lastSeq: row.lastSeq };
};

// The log of a turn begins with its place 0, by which turn_events_begun_idx finds the oldest.
const selectExpired: Statement = {
  name: "turn_log_scan_expired",
  text: `
    select e.turn_id as "id", e.tenant_id as "tenantId"
    from turn_events e
    join chat_turns t on t.id = e.turn_id and t.tenant_id = e.tenant_id
    where e.seq = 0
      and e.created_at <= now() - make_interval(secs => $1)
      and t.completed_at <= now() - make_interval(secs => $1)
    order by e.created_at
    limit $2`,
};

/** Scan across tenants, ids only (data.md §5): logs of turns that ended so long ago, oldest first. */
export const scanExpiredLogsAcrossTenants = async (
  db: Queryable,
  retentionSecs: number,
  limit: number,
): Promise<readonly LoggedTurn[]> => (await db.query<LoggedTurn>(selectExpired, [retentionSecs, limit])).rows;

const deleteLogs: Statement = {
  name: "turn_log_delete",
  text: `
    delete from turn_events e
    using unnest($1::uuid[], $2::uuid[]) as old (turn_id, tenant_id)
    where e.turn_id = old.turn_id
      and e.tenant_id = old.tenant_id`,
};

/** Deletes the whole logs of these turns; returns how many events they had. */
export const deleteLogsOf = async (tx: Tx, turns: readonly LoggedTurn[]): Promise<number> =>
  (await tx.query(deleteLogs, [turns.map(({ id }) => id), turns.map(({ tenantId }) => tenantId)])).rowCount;
