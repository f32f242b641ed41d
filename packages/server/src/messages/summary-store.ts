import type { TenantId } from "../auth/actor.ts";
import type { Position } from "../context/position.ts";
import type { Queryable, Statement } from "../db/pool.ts";
import type { Tx } from "../db/tx.ts";

/** What thread summaries read of `messages`, and the mark they leave (context.md §6). */

const selectNewest: Statement = {
  name: "message_newest",
  text: `
    select id, created_at as "createdAt", request_id as "requestId"
    from messages
    where chat_id = $1
      and tenant_id = $2
      and deleted_at is null
    order by created_at desc, id desc
    limit $3`,
};

/** The newest messages of a chat, newest first, whether sent to models or not. */
export const findNewestMessages = async (
  db: Queryable,
  tenantId: TenantId,
  chatId: string,
  limit: number,
): Promise<(Position & { readonly requestId: string | null })[]> =>
  (await db.query<Position & { requestId: string | null }>(selectNewest, [chatId, tenantId, limit])).rows;

/** Messages of a chat behind `after` up to and including `upTo`. */
export interface MessageRange {
  readonly tenantId: TenantId;
  readonly chatId: string;
  readonly after: Position | null;
  readonly upTo: Position;
}

const inRange = `m.deleted_at is null
      and not m.is_compressed
      and (m.created_at, m.id) > (
        coalesce($3::timestamptz, '-infinity'), coalesce($4::uuid, '00000000-0000-0000-0000-000000000000')
      )
      and (m.created_at, m.id) <= ($5::timestamptz, $6::uuid)`;

const rangeValues = ({ chatId, tenantId, after, upTo }: MessageRange): unknown[] => [
  chatId,
  tenantId,
  after?.createdAt ?? null,
  after?.id ?? null,
  upTo.createdAt,
  upTo.id,
];

// Newest first, so that the bound of a range without end keeps what matters most.
const selectRange: Statement = {
  name: "message_summary_range",
  text: `
    select
      m.id, m.role, count(*) over () as total,
      case when $7::int = 0 then m.content else left(m.content, $7::int + 1) end as content
    from messages m
    where m.chat_id = $1
      and m.tenant_id = $2
      and ${inRange}
    order by m.created_at desc, m.id desc
    limit $8`,
};

export interface RangeMessage {
  readonly id: string;
  readonly role: "user" | "assistant" | "system";
  readonly content: string;
}

/** A range as it was read. */
export interface LoadedRange {
  /** Oldest first; of a range beyond the limit its newest messages. */
  readonly messages: readonly RangeMessage[];
  readonly total: number;
}

/**
 * The messages of a range that are neither deleted nor compressed. `maxChars` cuts each content one
 * character later, so that the cut is noticed; 0 cuts none.
 */
export const loadRange = async (
  db: Queryable,
  range: MessageRange,
  { maxChars, limit }: { readonly maxChars: number; readonly limit: number },
): Promise<LoadedRange> => {
  const { rows } = await db.query<RangeMessage & { total: bigint }>(selectRange, [
    ...rangeValues(range),
    maxChars,
    limit,
  ]);
  return {
    messages: rows.map(({ id, role, content }) => ({ id, role, content })).reverse(),
    total: Number(rows[0]?.total ?? 0n),
  };
};

/**
 * Of messages marked by one statement: a row that changes is written to the search index anew, some 0.6 ms
 * each, and 40,000 at once run into the time limit of a statement.
 */
export const markedAtOnce = 2_000;

// The rows stay locked to the end of the transaction: whoever deletes one of them waits, then finds a
// summary that covers it; whoever was first makes the count fall short: a row that was waited for is only
// looked at again by the outer conditions.
const compress: Statement = {
  name: "message_compress_range",
  text: `
    with compressed as (
      update messages m
      set is_compressed = true
      where m.chat_id = $1
        and m.tenant_id = $2
        and ${inRange}
        and m.id = any (array(
          select m.id
          from messages m
          where m.chat_id = $1
            and m.tenant_id = $2
            and ${inRange}
          order by m.created_at, m.id
          limit $8
        ))
      returning m.id
    )
    select count(*) as total, count(*) filter (where id = any($7::uuid[])) as known
    from compressed`,
};

/**
 * Marks exactly the range as covered by the summary. False when it is not the one that was loaded any
 * more: a message was deleted, or covered by another summary. The transaction must then roll back.
 */
export const compressRange = async (tx: Tx, range: MessageRange, loaded: LoadedRange): Promise<boolean> => {
  const ids = loaded.messages.map((message) => message.id);
  const values = [...rangeValues(range), ids, markedAtOnce];
  const sum = { total: 0, known: 0 };
  for (let marked = markedAtOnce; marked === markedAtOnce; ) {
    const { rows } = await tx.query<{ total: bigint; known: bigint }>(compress, values);
    marked = Number(rows[0]?.total ?? 0n);
    sum.total += marked;
    sum.known += Number(rows[0]?.known ?? 0n);
  }
  return sum.total === loaded.total && sum.known === ids.length;
};
