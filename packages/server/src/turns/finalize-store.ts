import type { TenantId } from "../auth/actor.ts";
import type { Queryable, Result, Statement, Timestamp } from "../db/pool.ts";
import type { Tx } from "../db/tx.ts";
import type { CancelReason, ReserveColumns, TerminalState, ToolCounts } from "./turn.ts";

/** The statements of transaction 2 that touch `chat_turns` (turns.md §10.2). */

/** A turn as the compare-and-set returns it. */
export interface FinalizedRow {
  readonly id: string;
  readonly chatId: string;
  readonly requestId: string;
  readonly requesterType: "user" | "system";
  readonly requesterUserId: string | null;
  /** Null only for a row without preflight columns (turns.md §12), which settles nothing. */
  readonly reserve: ReserveColumns | null;
  /** Configuration key of the provider; null as `reserve` is. */
  readonly providerName: string | null;
  readonly downgradeReason: string | null;
  readonly webSearchCount: number;
  readonly codeInterpreterCount: number;
  readonly fileSearchCount: number;
  readonly startedAt: Timestamp;
  readonly completedAt: Timestamp;
  readonly selectedModel: string;
}

const returning = `
    returning
      t.id, t.chat_id, t.request_id, t.requester_type, t.requester_user_id,
      t.reserve_tokens, t.reserved_credits_micro, t.policy_version_applied,
      t.max_output_tokens_applied, t.minimal_generation_floor_applied,
      t.effective_model, t.effective_tier, t.provider_name,
      t.input_multiplier_micro_applied, t.output_multiplier_micro_applied, t.downgrade_reason,
      t.web_search_completed_count, t.code_interpreter_completed_count, t.file_search_completed_count,
      t.started_at, t.completed_at,
      (select c.model from chats c where c.id = t.chat_id and c.tenant_id = t.tenant_id) as selected_model`;

// The counters say what is settled, also when the last of their own writes comes too late.
const endTurn: Statement = {
  name: "turn_end",
  text: `
    update chat_turns t
    set
      state = $3,
      error_code = $4,
      error_detail = $5,
      provider_response_id = $6,
      cancel_reason = coalesce(t.cancel_reason, $7),
      web_search_completed_count = greatest(t.web_search_completed_count, $8),
      code_interpreter_completed_count = greatest(t.code_interpreter_completed_count, $9),
      file_search_completed_count = greatest(t.file_search_completed_count, $10),
      completed_at = now(),
      updated_at = now()
    where t.id = $1
      and t.tenant_id = $2
      and t.state = 'running'${returning}`,
};

/**
 * Whether silence means anything: after an outage of the database nobody has reported, so a turn is an
 * orphan only while some instance has reported without a gap for so long that every living owner did.
 */
const someoneReported = (witnessSecs: string, leaseSecs: string): string => `exists (
        select
        from app_instances w
        where w.started_at <= now() - make_interval(secs => ${witnessSecs})
          and w.last_seen_at > now() - make_interval(secs => ${leaseSecs} / 2)
      )`;

// The same compare-and-set, repeating every candidate predicate of the scan (turns.md §12).
const endOrphan: Statement = {
  name: "turn_end_orphan",
  text: `
    update chat_turns t
    set
      state = $3,
      error_code = $4,
      error_detail = $5,
      completed_at = now(),
      updated_at = now()
    where t.id = $1
      and t.tenant_id = $2
      and t.state = 'running'
      and t.deleted_at is null
      and (
        t.last_progress_at <= now() - make_interval(secs => $6)
        or (
          t.last_progress_at <= now() - make_interval(secs => $7)
          and t.owner_instance_id is not null
          and not exists (
            select
            from app_instances i
            where i.id = t.owner_instance_id
              and i.last_seen_at > now() - make_interval(secs => $8)
          )
        )
      )
      and ${someoneReported("$9", "$8")}${returning}`,
};

interface Row {
  id: string;
  chat_id: string;
  request_id: string;
  requester_type: "user" | "system";
  requester_user_id: string | null;
  reserve_tokens: bigint | null;
  reserved_credits_micro: bigint | null;
  policy_version_applied: bigint | null;
  max_output_tokens_applied: number | null;
  minimal_generation_floor_applied: number | null;
  effective_model: string | null;
  effective_tier: "standard" | "premium" | null;
  provider_name: string | null;
  input_multiplier_micro_applied: bigint | null;
  output_multiplier_micro_applied: bigint | null;
  downgrade_reason: string | null;
  web_search_completed_count: number;
  code_interpreter_completed_count: number;
  file_search_completed_count: number;
  started_at: Timestamp;
  completed_at: Timestamp;
  selected_model: string | null;
}

/** A check constraint makes the nine columns all null or all set; one tells for all. */
const reserveOf = (row: Row): ReserveColumns | null => {
  const {
    reserve_tokens: reserveTokens,
    reserved_credits_micro: reservedCreditsMicro,
    policy_version_applied: policyVersionApplied,
    max_output_tokens_applied: maxOutputTokensApplied,
    minimal_generation_floor_applied: minimalGenerationFloorApplied,
    effective_model: effectiveModel,
    effective_tier: effectiveTier,
    input_multiplier_micro_applied: inputMultiplierMicro,
    output_multiplier_micro_applied: outputMultiplierMicro,
  } = row;
  if (
    reserveTokens === null ||
    reservedCreditsMicro === null ||
    policyVersionApplied === null ||
    maxOutputTokensApplied === null ||
    minimalGenerationFloorApplied === null ||
    effectiveModel === null ||
    effectiveTier === null ||
    inputMultiplierMicro === null ||
    outputMultiplierMicro === null
  ) {
    return null;
  }
  return {
    reserveTokens,
    reservedCreditsMicro,
    policyVersionApplied,
    maxOutputTokensApplied,
    minimalGenerationFloorApplied,
    effectiveModel,
    effectiveTier,
    inputMultiplierMicro,
    outputMultiplierMicro,
  };
};

const toFinalized = (result: Result<Row>): FinalizedRow | null => {
  const row = result.rows[0];
  if (row === undefined) return null;
  return {
    id: row.id,
    chatId: row.chat_id,
    requestId: row.request_id,
    requesterType: row.requester_type,
    requesterUserId: row.requester_user_id,
    reserve: reserveOf(row),
    providerName: row.provider_name,
    downgradeReason: row.downgrade_reason,
    webSearchCount: row.web_search_completed_count,
    codeInterpreterCount: row.code_interpreter_completed_count,
    fileSearchCount: row.file_search_completed_count,
    startedAt: row.started_at,
    completedAt: row.completed_at,
    selectedModel: row.selected_model ?? "",
  };
};

export interface TurnEnd {
  readonly turnId: string;
  readonly tenantId: TenantId;
  readonly state: TerminalState;
  readonly errorCode: string | null;
  readonly errorDetail: string | null;
  readonly responseId: string | null;
  readonly cancelReason: CancelReason | null;
  /** Finished calls as the stream counted them; null leaves the persisted ones. */
  readonly toolCounts: ToolCounts | null;
}

/** Compare-and-set from `running`; null when another finalizer was first. */
export const compareAndEnd = async (tx: Tx, end: TurnEnd): Promise<FinalizedRow | null> =>
  toFinalized(
    await tx.query<Row>(endTurn, [
      end.turnId,
      end.tenantId,
      end.state,
      end.errorCode,
      end.errorDetail,
      end.responseId,
      end.cancelReason,
      end.toolCounts?.webSearch ?? null,
      end.toolCounts?.codeInterpreter ?? null,
      end.toolCounts?.fileSearch ?? null,
    ]),
  );

export interface OrphanLimits {
  /** Seconds without progress that make any turn an orphan. */
  readonly timeoutSecs: number;
  /** Seconds without progress that make a turn of a dead owner an orphan. */
  readonly deadOwnerSecs: number;
  readonly leaseSecs: number;
  /** Seconds for which somebody must have reported without a gap before anybody's silence counts. */
  readonly witnessSecs: number;
}

/** Compare-and-set of the watchdog; null when the turn finished, moved or was deleted meanwhile. */
export const compareAndEndOrphan = async (
  tx: Tx,
  end: Omit<TurnEnd, "responseId" | "cancelReason" | "toolCounts">,
  limits: OrphanLimits,
): Promise<FinalizedRow | null> =>
  toFinalized(
    await tx.query<Row>(endOrphan, [
      end.turnId,
      end.tenantId,
      end.state,
      end.errorCode,
      end.errorDetail,
      limits.timeoutSecs,
      limits.deadOwnerSecs,
      limits.leaseSecs,
      limits.witnessSecs,
    ]),
  );

const setAnswer: Statement = {
  name: "turn_set_answer",
  text: `
    update chat_turns
    set assistant_message_id = $3
    where id = $1
      and tenant_id = $2`,
};

export const setAssistantMessage = (
  tx: Tx,
  turn: { id: string; tenantId: TenantId },
  messageId: string,
): Promise<Result<never>> => tx.query(setAnswer, [turn.id, turn.tenantId, messageId]);

const selectOrphans: Statement = {
  name: "turn_scan_orphans",
  text: `
    select
      t.id, t.tenant_id as "tenantId", t.chat_id as "chatId", t.request_id as "requestId",
      t.cancel_requested_at is not null as "cancelRequested",
      t.on_disconnect = 'continue' as "resumable",
      t.owner_instance_id is not null
        and not exists (
          select
          from app_instances i
          where i.id = t.owner_instance_id
            and i.last_seen_at > now() - make_interval(secs => $3)
        ) as "deadOwner",
      ${someoneReported("$6", "$3")} as "told"
    from chat_turns t
    where t.state = 'running'
      and t.deleted_at is null
      and t.last_progress_at <= now() - make_interval(secs => least($1::float8, $2::float8))
      and (
        t.last_progress_at <= now() - make_interval(secs => $1)
        or (
          t.owner_instance_id is not null
          and not exists (
            select
            from app_instances i
            where i.id = t.owner_instance_id
              and i.last_seen_at > now() - make_interval(secs => $3)
          )
        )
      )
    order by t.id = any($5::uuid[]), t.last_progress_at
    limit $4`,
};

export interface OrphanCandidate {
  readonly id: string;
  readonly tenantId: TenantId;
  readonly chatId: string;
  readonly requestId: string;
  readonly cancelRequested: boolean;
  /** It has a log, which may hold text (turns.md §16.2). */
  readonly resumable: boolean;
  /** Its owner has missed its lease, so it is one without waiting for the long time-out. */
  readonly deadOwner: boolean;
  /** Silence means something now, the same for all of a scan; otherwise it is no orphan yet. */
  readonly told: boolean;
}

/** Scan across tenants, ids only (data.md §5): stale turns, oldest first, those named `last` behind all others. */
export const scanOrphansAcrossTenants = async (
  db: Queryable,
  limits: OrphanLimits,
  { limit, last }: { readonly limit: number; readonly last: readonly string[] },
): Promise<OrphanCandidate[]> =>
  (
    await db.query<OrphanCandidate>(selectOrphans, [
      limits.timeoutSecs,
      limits.deadOwnerSecs,
      limits.leaseSecs,
      limit,
      last,
      limits.witnessSecs,
    ])
  ).rows;

const selectEnd: Statement = {
  name: "turn_read_end",
  text: `
    select state, error_code as "errorCode", assistant_message_id as "assistantMessageId"
    from chat_turns
    where id = $1
      and tenant_id = $2`,
};

/** How a turn ended, for a finalizer whose COMMIT got no answer; null when it does not exist. */
export const readTurnEnd = async (
  db: Queryable,
  tenantId: TenantId,
  turnId: string,
): Promise<{ state: string; errorCode: string | null; assistantMessageId: string | null } | null> =>
  (
    await db.query<{ state: string; errorCode: string | null; assistantMessageId: string | null }>(
      selectEnd,
      [turnId, tenantId],
    )
  ).rows[0] ?? null;
