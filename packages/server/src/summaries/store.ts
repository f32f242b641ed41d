import type { TenantId } from "../auth/actor.ts";
import type { Position } from "../context/position.ts";
import type { Queryable, Statement, Timestamp } from "../db/pool.ts";
import type { Tx } from "../db/tx.ts";
import type { ThreadSummary } from "./summary.ts";

/** SQL of `thread_summaries`; the index is `thread_summaries_chat_key`. */

const select: Statement = {
  name: "summary_select",
  text: `
    select
      id, summary_text as "text", token_estimate as "tokenEstimate",
      summarized_up_to_created_at as "createdAt", summarized_up_to_message_id as "messageId"
    from thread_summaries
    where chat_id = $1
      and tenant_id = $2`,
};

interface Row {
  readonly id: string;
  readonly text: string;
  readonly tokenEstimate: number;
  readonly createdAt: Timestamp;
  readonly messageId: string;
}

/** The summary of a chat; null when it has none. */
export const findSummary = async (
  db: Queryable,
  tenantId: TenantId,
  chatId: string,
): Promise<ThreadSummary | null> => {
  const row = (await db.query<Row>(select, [chatId, tenantId])).rows[0];
  if (row === undefined) return null;
  const { id, text, tokenEstimate, createdAt, messageId } = row;
  return { id, text, tokenEstimate, frontier: { createdAt, id: messageId } };
};

const selectFrontier: Statement = {
  name: "summary_frontier",
  text: `
    select summarized_up_to_created_at as "createdAt", summarized_up_to_message_id as "id"
    from thread_summaries
    where chat_id = $1
      and tenant_id = $2`,
};

/** The last message the summary of a chat covers; null when it has none. */
export const findFrontier = async (
  db: Queryable,
  tenantId: TenantId,
  chatId: string,
): Promise<Position | null> => (await db.query<Position>(selectFrontier, [chatId, tenantId])).rows[0] ?? null;

/** A summary that is to take the place of `base`. */
export interface NextSummary {
  /** Of a new row; an existing one keeps its own. */
  readonly id: string;
  readonly tenantId: TenantId;
  readonly chatId: string;
  readonly base: Pick<ThreadSummary, "id" | "frontier"> | null;
  readonly text: string;
  readonly tokenEstimate: number;
  readonly target: Position;
}

const insertFirst: Statement = {
  name: "summary_insert_first",
  text: `
    insert into thread_summaries (
      id, tenant_id, chat_id, summary_text, token_estimate, summarized_up_to_created_at,
      summarized_up_to_message_id
    )
    values ($1, $2, $3, $4, $5, $6, $7)
    on conflict (chat_id) do nothing
    returning updated_at as "at"`,
};

// The id as well as the frontier: a row that was deleted and made anew is another summary.
const advance: Statement = {
  name: "summary_advance",
  text: `
    update thread_summaries
    set
      summary_text = $4,
      token_estimate = $5,
      summarized_up_to_created_at = $6,
      summarized_up_to_message_id = $7,
      updated_at = now()
    where chat_id = $3
      and tenant_id = $2
      and id = $1
      and summarized_up_to_created_at = $8
      and summarized_up_to_message_id = $9
    returning updated_at as "at"`,
};

/** Compare-and-set of the frontier (context.md §6.4); the time by the database, null when it was lost. */
export const compareAndAdvance = async (tx: Tx, next: NextSummary): Promise<Timestamp | null> => {
  const { base, tenantId, chatId, text, tokenEstimate, target } = next;
  const written = [tenantId, chatId, text, tokenEstimate, target.createdAt, target.id];
  const result =
    base === null
      ? tx.query<{ at: Timestamp }>(insertFirst, [next.id, ...written])
      : tx.query<{ at: Timestamp }>(advance, [
          base.id,
          ...written,
          base.frontier.createdAt,
          base.frontier.id,
        ]);
  return (await result).rows[0]?.at ?? null;
};
