import type { TenantId } from "../auth/actor.ts";
import type { Queryable, Result, Statement, Timestamp } from "../db/pool.ts";
import type { Tx } from "../db/tx.ts";
import type { ProviderUsage, ToolName } from "../providers/contract.ts";

/** All SQL of `messages` but the listing (`list.ts`) and what mutations do (`mutation-store.ts`). */

// created_at strictly increases within a chat (turns.md §1): max(now(), newest of the chat + 1 µs). The
// clock of this statement, which runs under the lock of its chat or turn: a transaction that waited for the
// lock began before messages that are already deleted, and those no index finds.
const nextCreatedAt = `
      greatest(
        clock_timestamp(),
        (
          select created_at + interval '1 microsecond'
          from messages
          where chat_id = $3
            and tenant_id = $2
            and deleted_at is null
          order by created_at desc, id desc
          limit 1
        )
      )`;

const insertUser: Statement = {
  name: "message_insert_user",
  text: `
    insert into messages (id, tenant_id, chat_id, request_id, role, content, request_kind, created_at)
    select $1, $2, $3, $4, 'user', $5, 'chat', ${nextCreatedAt}`,
};

/** Stores the question of a turn, untrimmed, in the preflight transaction. */
export const insertUserMessage = (
  tx: Tx,
  message: { id: string; tenantId: TenantId; chatId: string; requestId: string; content: string },
): Promise<Result<never>> =>
  tx.query(insertUser, [message.id, message.tenantId, message.chatId, message.requestId, message.content]);

const insertAssistant: Statement = {
  name: "message_insert_assistant",
  text: `
    insert into messages (
      id, tenant_id, chat_id, request_id, role, content, request_kind, model, provider_response_id,
      input_tokens, output_tokens, cache_read_input_tokens, cache_write_input_tokens, reasoning_tokens,
      citations, features_used, created_at
    )
    select
      $1, $2, $3, $4, 'assistant', $5, 'chat', $6, $7, $8, $9, $10, $11, $12, $13, $14, ${nextCreatedAt}`,
};

export interface NewAssistantMessage {
  readonly id: string;
  readonly tenantId: TenantId;
  readonly chatId: string;
  readonly requestId: string;
  readonly content: string;
  readonly model: string;
  readonly providerResponseId: string | null;
  readonly usage: ProviderUsage | null;
  /** Already mapped and cleaned items of the `citations` event, for replay; null when there are none. */
  readonly citations: readonly unknown[] | null;
  /** Tools that ran for it. */
  readonly featuresUsed: readonly ToolName[];
}

/** Stores the answer of a turn, in the transaction that ends it. */
export const insertAssistantMessage = (tx: Tx, message: NewAssistantMessage): Promise<Result<never>> =>
  tx.query(insertAssistant, [
    message.id,
    message.tenantId,
    message.chatId,
    message.requestId,
    message.content,
    message.model,
    message.providerResponseId,
    message.usage?.inputTokens ?? 0,
    message.usage?.outputTokens ?? 0,
    message.usage?.cacheReadInputTokens ?? 0,
    message.usage?.cacheWriteInputTokens ?? 0,
    message.usage?.reasoningTokens ?? 0,
    message.citations === null ? null : JSON.stringify(message.citations),
    JSON.stringify(message.featuresUsed),
  ]);

export interface StoredAnswer {
  readonly id: string;
  readonly content: string;
  readonly inputTokens: bigint;
  readonly outputTokens: bigint;
  readonly citations: readonly StoredCitation[] | null;
}

/** One item of the `citations` event as stored with its message. */
export interface StoredCitation {
  readonly source: "file" | "web";
  readonly attachment_id?: string;
  readonly [field: string]: unknown;
}

const selectAnswer: Statement = {
  name: "message_answer_of_turn",
  text: `
    select
      id, content, input_tokens as "inputTokens", output_tokens as "outputTokens", citations
    from messages
    where chat_id = $1
      and tenant_id = $2
      and id = $3
      and deleted_at is null`,
};

/** The stored answer of a completed turn, for replay. */
export const findAnswer = async (
  db: Queryable,
  tenantId: TenantId,
  chatId: string,
  messageId: string,
): Promise<StoredAnswer | null> =>
  (await db.query<StoredAnswer>(selectAnswer, [chatId, tenantId, messageId])).rows[0] ?? null;

export interface RecentMessage {
  readonly id: string;
  readonly role: "user" | "assistant" | "system";
  readonly content: string;
  readonly createdAt: Timestamp;
}

// Index (chat_id, created_at, id) where deleted_at is null, read backwards down to the frontier of the
// summary: the flag alone would read on through all it covers, in search of the last row of the limit.
const selectRecent: Statement = {
  name: "message_recent",
  text: `
    select id, role, content, created_at as "createdAt"
    from messages
    where chat_id = $1
      and tenant_id = $2
      and deleted_at is null
      and request_id is not null
      and is_compressed = false
      and (created_at, id) > (
        coalesce(
          (select summarized_up_to_created_at from thread_summaries where chat_id = $1 and tenant_id = $2),
          '-infinity'
        ),
        coalesce(
          (select summarized_up_to_message_id from thread_summaries where chat_id = $1 and tenant_id = $2),
          '00000000-0000-0000-0000-000000000000'
        )
      )
    order by created_at desc, id desc
    limit $3`,
};

/** The newest `limit` messages eligible as context, newest first (context.md §3). */
export const findRecentMessages = async (
  db: Queryable,
  tenantId: TenantId,
  chatId: string,
  limit: number,
): Promise<RecentMessage[]> => (await db.query<RecentMessage>(selectRecent, [chatId, tenantId, limit])).rows;

const selectPriorTokens: Statement = {
  name: "message_prior_context_tokens",
  text: `
    select input_tokens + output_tokens as tokens
    from messages
    where chat_id = $1
      and tenant_id = $2
      and deleted_at is null
      and role = 'assistant'
      and (input_tokens > 0 or output_tokens > 0)
    order by created_at desc, id desc
    limit 1`,
};

/** `priorContextTokens` of quota.md §3: size of the newest answer with known usage; 0 in a new chat. */
export const findPriorContextTokens = async (
  db: Queryable,
  tenantId: TenantId,
  chatId: string,
): Promise<bigint> =>
  (await db.query<{ tokens: bigint }>(selectPriorTokens, [chatId, tenantId])).rows[0]?.tokens ?? 0n;

const selectRole: Statement = {
  name: "message_role",
  text: `
    select role
    from messages
    where chat_id = $1
      and tenant_id = $2
      and id = $3
      and request_id is not null
      and deleted_at is null`,
};

/** Whose message this is, of an already loaded chat; null when unknown, deleted or elsewhere. */
export const findMessageRole = async (
  db: Queryable,
  tenantId: TenantId,
  chatId: string,
  messageId: string,
): Promise<"user" | "assistant" | "system" | null> =>
  (await db.query<{ role: "user" | "assistant" | "system" }>(selectRole, [chatId, tenantId, messageId]))
    .rows[0]?.role ?? null;
