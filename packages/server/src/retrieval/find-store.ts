import type { TenantId } from "../auth/actor.ts";
import type { Queryable, Statement } from "../db/pool.ts";
import type { Position } from "./chunk.ts";

/** The SQL of finding: reads chunks together with the attachments they belong to, which must be ready and live. */

/** A chunk that answers some words of the question. */
export interface Candidate {
  readonly attachmentId: string;
  readonly filename: string;
  readonly fileId: string;
  readonly no: number;
  readonly content: string;
  readonly overlap: number;
  readonly position: Position;
  readonly score: number;
}

const limitsStatement: Statement = {
  name: "local_find_limits",
  text: `select set_config('statement_timeout', $1, true), set_config('jit', 'off', true)`,
};

/** Bounds what the rest of this transaction may cost. */
export const limitFinding = async (tx: Queryable, timeoutMs: number): Promise<void> => {
  await tx.query(limitsStatement, [`${timeoutMs}ms`]);
};

// A word counts the more the fewer chunks have it; they are counted up to a number from which on it hardly
// counts any more. Chunks are read for the rarest words only, as many as are wanted and always for the rarest of
// all; the other words still count where these are. Planned for each question: values decide.
const candidates = `
    with words as (
      select word, position, ('''' || word || '''')::tsquery as query
      from unnest($3::text[]) with ordinality as w (word, position)
    ),
    live as materialized (
      select f.id, f.chunks, f.created_at, a.id as attachment_id, a.filename
      from local_files f
      join attachments a on a.chat_id = f.chat_id and a.id = f.attachment_id and a.tenant_id = f.tenant_id
      where f.tenant_id = $1
        and f.chat_id = $2
        and f.index_status = 'completed'
        and a.tenant_id = $1
        and a.status = 'ready'
        and a.deleted_at is null
        and a.provider_file_id = f.id::text
    ),
    counted as materialized (
      select w.position, w.query, n.chunks
      from words w
      cross join lateral (
        select count(*) as chunks
        from (
          select 1
          from local_chunks c
          where array[search_key(c.tenant_id, c.chat_id, 0)] && array[search_key($1, $2, 0)]
            and c.words @@ w.query
            and c.tenant_id = $1
            and c.chat_id = $2
          limit $4
        ) c
      ) n
      where n.chunks > 0
    ),
    weighed as materialized (
      select
        query,
        chunks,
        ln(1 + (select greatest(sum(chunks), 1) from live) / chunks)::float8 as weight,
        sum(chunks) over (order by chunks, position) - chunks as before
      from counted
    ),
    asked as materialized (
      select string_agg(query::text, ' | ' order by before)::tsquery as query
      from weighed
      where before = 0
        or (before + chunks <= $5 and chunks < $4)
    ),
    best as (
      select c.file_id, c.no, s.score
      from (
        select c.file_id, c.no, c.words
        from local_chunks c
        where array[search_key(c.tenant_id, c.chat_id, 0)] && array[search_key($1, $2, 0)]
          and c.words @@ (select query from asked)
          and c.tenant_id = $1
          and c.chat_id = $2
          -- "is true" keeps the planner from joining: the documents are looked up in memory.
          and (c.file_id in (select id from live)) is true
        limit $6
      ) c
      cross join lateral (
        select sum(w.weight * (1 + ts_rank(c.words, w.query, 32))) as score
        from weighed w
        where c.words @@ w.query
      ) s
      order by s.score desc, c.file_id, c.no
      limit $7
    )
    select
      l.attachment_id as "attachmentId", l.filename, c.file_id as "fileId", c.no, c.content, c.overlap,
      c.place_kind as kind, c.place_from as "from", c.place_to as "to", c.place_name as name, b.score
    from best b
    join live l on l.id = b.file_id
    join local_chunks c on c.file_id = b.file_id and c.no = b.no
    where c.tenant_id = $1
      and c.chat_id = $2
    order by b.score desc, l.created_at, l.id, c.no`;

type CandidateRow = Omit<Candidate, "position"> & {
  readonly kind: Position["kind"];
  readonly from: number;
  readonly to: number;
  readonly name: string | null;
};

/** How much is read for a question. */
export interface Reach {
  /** Chunks a word is counted in. */
  readonly counted: number;
  /** The rarest words are read for that have so many chunks together. */
  readonly wanted: number;
  /** Chunks that are judged; there are more when all words are frequent ones. */
  readonly judged: number;
  /** Chunks that are returned. */
  readonly returned: number;
}

/** The chunks of a chat that say most of the words, best first. */
export const findCandidates = async (
  tx: Queryable,
  tenantId: TenantId,
  chatId: string,
  words: readonly string[],
  reach: Reach,
): Promise<Candidate[]> => {
  const { counted, wanted, judged, returned } = reach;
  const values = [tenantId, chatId, words, counted, wanted, judged, returned];
  const { rows } = await tx.query<CandidateRow>(candidates, values);
  return rows.map(({ kind, from, to, name, ...rest }) => ({
    ...rest,
    position: { kind, from, to, ...(name === null ? {} : { name }) },
  }));
};
