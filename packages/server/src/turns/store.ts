import type { TenantId } from "../auth/actor.ts";
import type { Queryable, Result, Statement, Timestamp } from "../db/pool.ts";
import type { Tx } from "../db/tx.ts";
import type { DowngradeReason, ReserveColumns, TurnState } from "./turn.ts";

/** All SQL of `chat_turns` that is not finalization (see `finalize-store.ts`). */

export interface TurnLookup {
  readonly id: string;
  readonly requestId: string;
  readonly state: TurnState;
  readonly deleted: boolean;
  readonly fingerprint: Buffer;
  readonly assistantMessageId: string | null;
  readonly effectiveModel: string | null;
}

const turnForSendColumns = `
      id, request_id, state, deleted_at is not null as deleted, request_fingerprint,
      assistant_message_id, effective_model`;

// One statement, one snapshot: a twin of this send is never taken for another turn that runs.
const selectTurnsForSend: Statement = {
  name: "turns_for_send",
  text: `
    select ${turnForSendColumns}
    from chat_turns
    where chat_id = $1
      and tenant_id = $2
      and request_id = $3
    union all
    select ${turnForSendColumns}
    from chat_turns
    where chat_id = $1
      and tenant_id = $2
      and request_id <> $3
      and state = 'running'
      and deleted_at is null`,
};

interface TurnForSendRow {
  id: string;
  request_id: string;
  state: TurnState;
  deleted: boolean;
  request_fingerprint: Buffer;
  assistant_message_id: string | null;
  effective_model: string | null;
}

export interface TurnsForSend {
  /** The turn with this idempotency key, deleted ones included (turns.md §6). */
  readonly same: TurnLookup | null;
  /** Whether another turn of the chat is running (turns.md §4.2 row 7). */
  readonly otherRuns: boolean;
}

/** What rows 6 and 7 of turns.md §4.2 look at; `requestId` in lower case. */
export const findTurnsForSend = async (
  db: Queryable,
  tenantId: TenantId,
  chatId: string,
  requestId: string,
): Promise<TurnsForSend> => {
  const { rows } = await db.query<TurnForSendRow>(selectTurnsForSend, [chatId, tenantId, requestId]);
  const same = rows.find((row) => row.request_id === requestId);
  return { same: same === undefined ? null : toLookup(same), otherRuns: rows.some((row) => row !== same) };
};

const toLookup = (row: TurnForSendRow): TurnLookup => ({
  id: row.id,
  requestId: row.request_id,
  state: row.state,
  deleted: row.deleted,
  fingerprint: row.request_fingerprint,
  assistantMessageId: row.assistant_message_id,
  effectiveModel: row.effective_model,
});

export interface NewTurn {
  readonly id: string;
  readonly tenantId: TenantId;
  readonly chatId: string;
  readonly requestId: string;
  readonly requesterType: "user" | "system";
  readonly requesterUserId: string;
  readonly fingerprint: Buffer;
  readonly webSearch: boolean;
  readonly onDisconnect: "cancel" | "continue";
  readonly ownerInstanceId: string;
}

// started_at strictly increases within a chat (turns.md §1): the chat row is locked by the caller.
const insertTurnStatement: Statement = {
  name: "turn_insert",
  text: `
    insert into chat_turns (
      id, tenant_id, chat_id, request_id, requester_type, requester_user_id, state,
      request_fingerprint, web_search_enabled, on_disconnect, owner_instance_id,
      started_at, last_progress_at, updated_at
    )
    select
      $1, $2, $3, $4, $10, $5, 'running', $6, $7, $8, $9, clock.started_at, clock.started_at, clock.started_at
    from (
      select greatest(
        now(),
        (
          select started_at + interval '1 microsecond'
          from chat_turns
          where chat_id = $3
            and tenant_id = $2
            and deleted_at is null
          order by started_at desc, id desc
          limit 1
        )
      ) as started_at
    ) as clock
    returning started_at`,
};

/** Inserts the running turn; the two unique indexes decide rows 6 and 7 of turns.md §4.2. */
export const insertTurn = (tx: Tx, turn: NewTurn): Promise<Result<{ started_at: Timestamp }>> =>
  tx.query(insertTurnStatement, [
    turn.id,
    turn.tenantId,
    turn.chatId,
    turn.requestId,
    turn.requesterUserId,
    turn.fingerprint,
    turn.webSearch,
    turn.onDisconnect,
    turn.ownerInstanceId,
    turn.requesterType,
  ]);

const fillReserve: Statement = {
  name: "turn_fill_reserve",
  text: `
    update chat_turns
    set
      reserve_tokens = $3,
      reserved_credits_micro = $4,
      policy_version_applied = $5,
      max_output_tokens_applied = $6,
      minimal_generation_floor_applied = $7,
      effective_model = $8,
      effective_tier = $9,
      input_multiplier_micro_applied = $10,
      output_multiplier_micro_applied = $11,
      provider_name = $12,
      downgrade_reason = $13
    where id = $1
      and tenant_id = $2`,
};

/** Writes the preflight columns of the turn, once, in the transaction that inserted it. */
export const fillReserveColumns = (
  tx: Tx,
  turn: { id: string; tenantId: TenantId },
  reserve: ReserveColumns,
  more: { providerName: string; downgradeReason: DowngradeReason | null },
): Promise<Result<never>> =>
  tx.query(fillReserve, [
    turn.id,
    turn.tenantId,
    reserve.reserveTokens,
    reserve.reservedCreditsMicro,
    reserve.policyVersionApplied,
    reserve.maxOutputTokensApplied,
    reserve.minimalGenerationFloorApplied,
    reserve.effectiveModel,
    reserve.effectiveTier,
    reserve.inputMultiplierMicro,
    reserve.outputMultiplierMicro,
    more.providerName,
    more.downgradeReason,
  ]);

export interface TurnStatusRow {
  readonly id: string;
  readonly requestId: string;
  readonly requesterUserId: string | null;
  readonly state: TurnState;
  readonly errorCode: string | null;
  readonly assistantMessageId: string | null;
  readonly updatedAt: Timestamp;
}

const selectTurnStatus: Statement = {
  name: "turn_status",
  text: `
    select
      id, request_id as "requestId", requester_user_id as "requesterUserId", state,
      error_code as "errorCode", assistant_message_id as "assistantMessageId", updated_at as "updatedAt"
    from chat_turns
    where chat_id = $1
      and tenant_id = $2
      and request_id = $3`,
};

/** Status of a turn of an already loaded chat, replaced and deleted turns too (turns.md §14). */
export const findTurnStatus = async (
  db: Queryable,
  tenantId: TenantId,
  chatId: string,
  requestId: string,
): Promise<TurnStatusRow | null> =>
  (await db.query<TurnStatusRow>(selectTurnStatus, [chatId, tenantId, requestId])).rows[0] ?? null;

const progress: Statement = {
  name: "turn_progress",
  // One that hangs on a dead connection must not keep the next ones.
  timeoutMs: 5_000,
  text: `
    update chat_turns t
    set
      last_progress_at = now(),
      updated_at = now()
    from unnest($1::uuid[], $2::uuid[]) as mine (id, tenant_id)
    where t.id = mine.id
      and t.tenant_id = mine.tenant_id
      and t.state = 'running'
    returning t.id, t.cancel_reason as "reason", t.cancel_requested_at is not null as "requested"`,
};

/**
 * Moves the progress clock of these turns (turns.md §8) and returns those a cancellation was
 * requested for: owners poll the flag here in case a notification was lost (§16.1).
 */
export const recordProgress = async (
  db: Queryable,
  turns: readonly { id: string; tenantId: TenantId }[],
): Promise<{ id: string; reason: string | null }[]> => {
  const { rows } = await db.query<{ id: string; reason: string | null; requested: boolean }>(progress, [
    turns.map((turn) => turn.id),
    turns.map((turn) => turn.tenantId),
  ]);
  return rows.filter((row) => row.requested);
};

const countTool: Statement = {
  name: "turn_count_tool",
  text: `
    update chat_turns
    set
      web_search_completed_count = web_search_completed_count + $3,
      code_interpreter_completed_count = code_interpreter_completed_count + $4,
      file_search_completed_count = file_search_completed_count + $5,
      last_progress_at = now(),
      updated_at = now()
    where id = $1
      and tenant_id = $2
      and state = 'running'
      and deleted_at is null`,
};

/** Adds finished tool calls to the persisted counters, so that the watchdog can settle them. */
export const countToolCalls = async (
  db: Queryable,
  tenantId: TenantId,
  turnId: string,
  calls: { webSearch: number; codeInterpreter: number; fileSearch: number },
): Promise<void> => {
  await db.query(countTool, [turnId, tenantId, calls.webSearch, calls.codeInterpreter, calls.fileSearch]);
};

const requestCancelStatement: Statement = {
  name: "turn_request_cancel",
  text: `
    update chat_turns
    set
      cancel_requested_at = coalesce(cancel_requested_at, now()),
      cancel_reason = coalesce(cancel_reason, $4),
      updated_at = now()
    where chat_id = $1
      and tenant_id = $2
      and ($3::uuid is null or request_id = $3)
      and state = 'running'
    returning id`,
};

/** Flags running turns of the chat (one, or all with `requestId` null) for cancellation; returns their ids. */
export const requestCancel = async (
  db: Queryable,
  tenantId: TenantId,
  chatId: string,
  requestId: string | null,
  reason: "user_stop" | "chat_deleted",
): Promise<string[]> => {
  const { rows } = await db.query<{ id: string }>(requestCancelStatement, [
    chatId,
    tenantId,
    requestId,
    reason,
  ]);
  return rows.map((row) => row.id);
};
