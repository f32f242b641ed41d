import type { Actor } from "../auth/actor.ts";
import { type AccessScope, chatScopePredicate } from "../auth/scope.ts";
import type { Queryable, Statement, Timestamp } from "../db/pool.ts";
import type { ListTable } from "../http/odata.ts";
import { compileList } from "../http/odata-sql.ts";
import type { ListRequest } from "../http/paging.ts";
import type { AskedText, WordQuery } from "./query.ts";
import type { Stretch } from "./stretch.ts";

/** The SQL of searching: reads chats and messages together, through the index of migration 0006. */

/** Hits are newest first; a title is as old as its chat, since what moves would be skipped between pages. */
export const hitList = (asked: AskedText): ListTable => ({
  // A cursor belongs to one query.
  name: `search ${JSON.stringify(asked)}`,
  fields: {
    created_at: { type: "datetime", sql: "created_at" },
    id: { type: "uuid", sql: "id" },
  },
  defaultOrder: [{ field: "created_at", direction: "desc" }],
  selectable: [],
});

export interface Hit {
  /** Of the message, or of the chat whose title was found. */
  readonly id: string;
  readonly created_at: Timestamp;
  readonly kind: "message" | "title";
  readonly chatId: string;
  readonly chatTitle: string | null;
  /** Null for a title. */
  readonly role: "user" | "assistant" | "system" | null;
  /** What is searched of the message; null for a title. */
  readonly content: string | null;
}

const limits: Statement = {
  name: "search_limits",
  text: `
    select
      set_config('statement_timeout', $1, true),
      -- Lists of a word's beginning that do not fit would have to be checked row by row.
      set_config('work_mem', '16MB', true),
      set_config('jit', 'off', true)`,
};

const parse: Statement = {
  name: "search_parse",
  text: `
    with parsed as (
      select websearch_to_tsquery('pg_catalog.simple', $1) as query
    ),
    starred as (
      select
        case
          when $2::boolean and p.query::text like '%''' then (p.query::text || ':*')::tsquery
          else p.query
        end as query
      from parsed p
    )
    select
      s.query::text as query,
      querytree(s.query) as findable,
      now() as now
    from starred s`,
};

export interface ParsedText {
  readonly query: string;
  readonly findable: string;
  readonly now: Timestamp;
}

/** Parses the text, and bounds what the rest of this transaction may cost. */
export const parseText = async (
  tx: Queryable,
  asked: AskedText,
  timeoutMs: number,
): Promise<ParsedText | undefined> => {
  const [, { rows }] = await Promise.all([
    tx.query(limits, [`${timeoutMs}ms`]),
    tx.query<ParsedText>(parse, [asked.text, asked.prefix]),
  ]);
  return rows[0];
};

/**
 * The newest hits from the cursor on within a stretch of time, one more than the page holds if there are.
 * The index gives the candidates; whether their chat is alive, and phrases, are looked at in the order of
 * the list and only until the page is full.
 */
export const findHits = async (
  tx: Queryable,
  actor: Actor,
  scope: AccessScope,
  search: { readonly table: ListTable; readonly request: ListRequest; readonly words: WordQuery },
  stretch: Stretch,
): Promise<Hit[]> => {
  const allowed = chatScopePredicate(scope, "c", 9);
  const list = compileList(search.table, search.request, 9 + allowed.values.length);
  const here = `created_at >= $7::timestamptz and created_at < $8::timestamptz and ${list.where}`;
  const visible = `c.user_id = $2 and c.deleted_at is null and ${allowed.sql}`;
  const { rows } = await tx.query<Hit>(
    `
    with titles as (
      select c.id, c.id as chat_id, c.created_at, 'title' as kind
      from chats c
      where c.tenant_id = $1
        and ${visible}
        and ${here}
        and c.title is not null
        and array[search_key(c.tenant_id, c.user_id, 0)] && array[search_key($1, $2, 0)]
        and search_terms(c.title) @@ $3::tsquery
      order by ${list.orderBy}
      limit ${list.limit}
    ),
    candidates as materialized (
      select m.id, m.chat_id, m.created_at
      from messages m
      where m.tenant_id = $1
        and m.user_id = $2
        and m.deleted_at is null
        and m.request_id is not null
        and search_keys(m.tenant_id, m.user_id, m.created_at)
          && array(select search_key($1, $2, period) from unnest($6::bigint[]) as period)
        and search_terms(m.content) @@ $4::tsquery
        and ${here}
    ),
    found as (
      select f.id, f.chat_id, f.created_at, 'message' as kind
      from (select * from candidates order by ${list.orderBy} offset 0) f
      -- "is true" keeps the planner from joining: the chats are read once and looked up in memory.
      where (f.chat_id in (select c.id from chats c where c.tenant_id = $1 and ${visible})) is true
        and (
          $5::text is null
          or (
            -- The pattern costs a tenth of the words, so these are taken of what it lets pass.
            select case when lower(m.content) ~ $5 then search_terms(m.content) @@ $3::tsquery else false end
            from messages m
            where m.id = f.id
              and m.tenant_id = $1
          )
        )
      limit ${list.limit}
    ),
    hits as (
      select * from (select * from titles union all select * from found) h
      order by ${list.orderBy}
      limit ${list.limit}
    )
    select
      h.id, h.created_at, h.kind, h.chat_id as "chatId", c.title as "chatTitle", m.role,
      left(m.content, 50000) as content
    from hits h
    join chats c on c.id = h.chat_id and c.tenant_id = $1
    left join messages m on h.kind = 'message' and m.id = h.id and m.tenant_id = $1
    order by ${list.orderBy}`,
    [
      actor.tenantId,
      actor.userId,
      search.words.query,
      search.words.indexed,
      search.words.phrase,
      stretch.periods,
      stretch.from,
      stretch.until,
      ...allowed.values,
      ...list.values,
    ],
  );
  return rows;
};
