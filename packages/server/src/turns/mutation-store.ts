import type { TenantId } from "../auth/actor.ts";
import type { Queryable, Statement, Timestamp } from "../db/pool.ts";
import type { Tx } from "../db/tx.ts";
import type { TurnState } from "./turn.ts";

/** The statements of retry, edit and delete that touch `chat_turns` (turns.md §15). */

/** A turn someone wants to replace or delete, as it stands before the transaction. */
export interface MutationTarget {
  readonly id: string;
  readonly requesterUserId: string | null;
  readonly state: TurnState;
  readonly webSearch: boolean;
  /** Not deleted, and no live turn of the chat is newer. */
  readonly latest: boolean;
  /** Its `updated_at` is the expected one, or none is expected. */
  readonly unchanged: boolean;
}

// Index (chat_id, started_at desc, id desc) where deleted_at is null.
const latestOfChat = `
        select id
        from chat_turns
        where chat_id = $1
          and tenant_id = $2
          and deleted_at is null
        order by started_at desc, id desc
        limit 1`;

const selectTarget: Statement = {
  name: "turn_mutation_target",
  text: `
    select
      t.id, t.requester_user_id as "requesterUserId", t.state, t.web_search_enabled as "webSearch",
      t.id is not distinct from (${latestOfChat}
      ) as latest,
      $4::timestamptz is null or t.updated_at = $4 as unchanged
    from chat_turns t
    where t.chat_id = $1
      and t.tenant_id = $2
      and t.request_id = $3`,
};

/** A turn of an already loaded chat, deleted ones too; `updatedAt` is what the caller last saw, or null. */
export const findMutationTarget = async (
  db: Queryable,
  tenantId: TenantId,
  turn: { readonly chatId: string; readonly requestId: string; readonly ifUpdatedAt: Timestamp | null },
): Promise<MutationTarget | null> =>
  (await db.query<MutationTarget>(selectTarget, [turn.chatId, tenantId, turn.requestId, turn.ifUpdatedAt]))
    .rows[0] ?? null;

export interface LatestTurn {
  readonly id: string;
  readonly requestId: string;
  readonly state: TurnState;
  readonly unchanged: boolean;
}

const lockLatest: Statement = {
  name: "turn_lock_latest",
  text: `
    select
      id, request_id as "requestId", state, $3::timestamptz is null or updated_at = $3 as unchanged
    from chat_turns
    where chat_id = $1
      and tenant_id = $2
      and deleted_at is null
    order by started_at desc, id desc
    limit 1
    for update`,
};

/** The latest live turn, locked. The caller holds the chat row, so no other turn can become the latest. */
export const lockLatestTurn = async (
  tx: Tx,
  tenantId: TenantId,
  chatId: string,
  ifUpdatedAt: Timestamp | null,
): Promise<LatestTurn | null> =>
  (await tx.query<LatestTurn>(lockLatest, [chatId, tenantId, ifUpdatedAt])).rows[0] ?? null;

const softDelete: Statement = {
  name: "turn_soft_delete",
  text: `
    update chat_turns
    set
      deleted_at = now(),
      replaced_by_request_id = $4,
      updated_at = now()
    where id = $1
      and tenant_id = $2
      and chat_id = $3
      and state <> 'running'
      and deleted_at is null
    returning deleted_at as "deletedAt"`,
};

/** Soft-deletes a terminal turn its caller has locked; it then points to its successor, if it has one. */
export const softDeleteTurn = async (
  tx: Tx,
  tenantId: TenantId,
  turn: { readonly id: string; readonly chatId: string },
  replacedBy: string | null,
): Promise<Timestamp | null> =>
  (await tx.query<{ deletedAt: Timestamp }>(softDelete, [turn.id, tenantId, turn.chatId, replacedBy])).rows[0]
    ?.deletedAt ?? null;
