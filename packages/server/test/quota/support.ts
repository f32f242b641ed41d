import { randomBytes } from "node:crypto";
import { type Actor, asTenantId, asUserId } from "../../src/auth/actor.ts";
import type { Db, Queryable } from "../../src/db/pool.ts";
import { inTransaction, type Tx } from "../../src/db/tx.ts";
import { uuidV4 } from "../../src/lib/id.ts";
import type { KillSwitches, ModelEntry, PolicySnapshot, UserLimits } from "../../src/policy/snapshot.ts";
import { type CascadeInput, type Decision, runCascade, type Tier } from "../../src/quota/cascade.ts";
import type { EstimationBudgets, OfferedTools } from "../../src/quota/estimate.ts";
import type { ReserveTerms } from "../../src/quota/settle.ts";
import {
  addReserve,
  type DailyCounters,
  lockQuotaRows,
  type QuotaAnomaly,
  settleQuota,
} from "../../src/quota/store.ts";
import { type Bill, billTurn } from "../../src/turns/billing.ts";
import type { TerminalState, ToolCounts } from "../../src/turns/turn.ts";

export const defaultBudgets: EstimationBudgets = {
  bytesPerTokenConservative: 4,
  fixedOverheadTokens: 100,
  safetyMarginPct: 10,
  imageTokenBudget: 1000,
  toolSurchargeTokens: 500,
  webSearchSurchargeTokens: 500,
  codeInterpreterSurchargeTokens: 1000,
  minimalGenerationFloor: 50,
};

export const noTools: OfferedTools = { fileSearch: false, webSearch: false, codeInterpreter: false };

/** A catalog entry; only what quota reads matters. */
export const model = (change: Partial<ModelEntry> & { id: string; tier: Tier }): ModelEntry => ({
  providerModelId: change.id,
  providerId: "openai",
  providerDisplayName: "OpenAI",
  displayName: change.id,
  description: "",
  icon: "",
  enabled: true,
  multimodalCapabilities: [],
  contextWindow: 128_000,
  maxInputTokens: 100_000,
  maxOutputTokens: 4_096,
  inputMultiplierMicro: 1_000_000n,
  outputMultiplierMicro: 3_000_000n,
  multiplierDisplay: "1x",
  estimationBudgets: defaultBudgets,
  maxNumResults: 10,
  webSearchContextSize: "low",
  maxToolCalls: 10,
  systemPrompt: "",
  threadSummaryPrompt: "",
  generalConfig: {
    maxFileSizeMb: 25,
    apiParams: {},
    toolSupport: {
      webSearch: true,
      fileSearch: true,
      codeInterpreter: true,
      imageGeneration: false,
      mcp: false,
    },
  },
  ...change,
});

export const noSwitches: KillSwitches = {
  forceStandardTier: false,
  disablePremiumTier: false,
  disableWebSearch: false,
  disableFileSearch: false,
  disableImages: false,
  disableCodeInterpreter: false,
};

export const snapshotOf = (
  models: readonly ModelEntry[],
  switches: Partial<KillSwitches> = {},
): PolicySnapshot => ({
  policyVersion: 1n,
  modelCatalog: models,
  killSwitches: { ...noSwitches, ...switches },
});

export const ample = 10n ** 15n;
export const ampleLimits: UserLimits = {
  standard: { daily: ample, monthly: ample },
  premium: { daily: ample, monthly: ample },
};

export const newActor = (): Actor => ({
  tenantId: asTenantId(uuidV4()),
  userId: asUserId(uuidV4()),
  subjectType: "user",
  scopes: ["*"],
});

/** A turn whose preflight has committed. */
export interface SentTurn {
  readonly id: string;
  readonly actor: Actor;
  readonly chatId: string;
  readonly tier: Tier;
  readonly reserve: ReserveTerms;
}

export interface Send {
  readonly models: readonly ModelEntry[];
  readonly limits?: UserLimits;
  /** Default: the first model. */
  readonly selectedModel?: string;
  readonly estimatedInputTokens: bigint;
  readonly images?: number;
  /** Default: the database's clock. */
  readonly startedAt?: string;
  /** Default 32 768. */
  readonly maxOutputTokens?: number;
}

export interface Sent {
  readonly decision: Decision;
  readonly today: DailyCounters;
  /** Null when rejected. */
  readonly turn: SentTurn | null;
}

export const newChat = async (db: Queryable, actor: Actor): Promise<string> => {
  const id = uuidV4();
  await db.query("insert into chats (id, tenant_id, user_id, model) values ($1, $2, $3, 'm')", [
    id,
    actor.tenantId,
    actor.userId,
  ]);
  return id;
};

/** Issues the insert of a running turn without its quota columns, as transaction 1 does. */
export const insertRunningTurn = (
  tx: Queryable,
  actor: Actor,
  turn: { id: string; chatId: string; startedAt?: string },
): Promise<unknown> =>
  tx.query(
    `insert into chat_turns (
       id, tenant_id, chat_id, request_id, requester_type, requester_user_id, state, request_fingerprint,
       started_at, last_progress_at
     )
     values ($1, $2, $3, $4, 'user', $5, 'running', $6, coalesce($7::timestamptz, now()), now())`,
    [turn.id, actor.tenantId, turn.chatId, uuidV4(), actor.userId, randomBytes(32), turn.startedAt ?? null],
  );

class Rejected extends Error {
  readonly sent: Sent;
  constructor(sent: Sent) {
    super("rejected");
    this.sent = sent;
  }
}

/** Transaction 1 as far as quota goes, in a chat of its own; deadlocks are not retried, so they show. */
export const send = async (db: Db, actor: Actor, one: Send): Promise<Sent> => {
  const chatId = await newChat(db, actor);
  const id = uuidV4();
  try {
    return await inTransaction(db, (tx) => preflight(tx, actor, { id, chatId }, one), { attempts: 1 });
  } catch (error) {
    if (error instanceof Rejected) return error.sent;
    throw error;
  }
};

const preflight = async (
  tx: Tx,
  actor: Actor,
  { id, chatId }: { id: string; chatId: string },
  one: Send,
): Promise<Sent> => {
  const { models, images = 0, startedAt, estimatedInputTokens } = one;
  const inserted = insertRunningTurn(tx, actor, {
    id,
    chatId,
    ...(startedAt === undefined ? {} : { startedAt }),
  });
  const locked = await lockQuotaRows(tx, actor, id);
  await inserted;
  const input: CascadeInput = {
    snapshot: snapshotOf(models),
    selectedModel: one.selectedModel ?? models[0]?.id ?? "",
    limits: one.limits ?? ampleLimits,
    balances: locked.balances,
    measure: () => ({ offered: noTools, estimatedInputTokens }),
    maxOutputTokens: one.maxOutputTokens ?? 32_768,
  };
  const decision = runCascade(input);
  if (decision.kind === "reject") throw new Rejected({ decision, today: locked.today, turn: null });
  const { model: effective, ...candidate } = decision.candidate;
  const { tier } = effective;
  const { reserveTokens, reservedCreditsMicro, maxOutputTokensApplied } = candidate;
  const reserve: ReserveTerms = {
    reserveTokens,
    reservedCreditsMicro,
    maxOutputTokensApplied,
    minimalGenerationFloorApplied: Math.min(50, maxOutputTokensApplied),
    inputMultiplierMicro: effective.inputMultiplierMicro,
    outputMultiplierMicro: effective.outputMultiplierMicro,
  };
  const writes = [
    addReserve(tx, actor, { periods: locked.periods, tier, reservedCreditsMicro, images }),
    fillColumns(tx, id, effective, reserve),
  ];
  tx.commitNow();
  await Promise.all(writes);
  return { decision, today: locked.today, turn: { id, actor, chatId, tier, reserve } };
};

const fillColumns = (tx: Tx, id: string, effective: ModelEntry, reserve: ReserveTerms): Promise<unknown> =>
  tx.query(
    `update chat_turns
     set reserve_tokens = $2, reserved_credits_micro = $3, policy_version_applied = 1,
       max_output_tokens_applied = $4, minimal_generation_floor_applied = $5, effective_model = $6,
       effective_tier = $7, input_multiplier_micro_applied = $8, output_multiplier_micro_applied = $9
     where id = $1`,
    [
      id,
      reserve.reserveTokens,
      reserve.reservedCreditsMicro,
      reserve.maxOutputTokensApplied,
      reserve.minimalGenerationFloorApplied,
      effective.id,
      effective.tier,
      reserve.inputMultiplierMicro,
      reserve.outputMultiplierMicro,
    ],
  );

/** The turn of a send that must have been admitted. */
export const admitted = ({ turn, decision }: Sent): SentTurn => {
  if (turn === null) throw new Error(`not admitted: ${decision.kind}`);
  return turn;
};

export interface End {
  readonly state?: TerminalState;
  readonly errorCode?: string;
  readonly usage?: { inputTokens: number; outputTokens: number } | null;
  readonly started?: boolean;
  readonly tools?: Partial<ToolCounts>;
}

export const noToolCalls: ToolCounts = { webSearch: 0, codeInterpreter: 0, fileSearch: 0 };

/** Transaction 2 as far as quota goes; deadlocks are not retried, so they show. */
export const end = (
  db: Db,
  turn: SentTurn,
  one: End = {},
): Promise<{ bill: Bill; anomalies: readonly QuotaAnomaly[] }> =>
  inTransaction(
    db,
    async (tx) => {
      const { state = "completed", errorCode = null, usage = null, started = true } = one;
      const bill = billTurn({
        state,
        errorCode,
        usage:
          usage === null
            ? null
            : { ...usage, cacheReadInputTokens: 0, cacheWriteInputTokens: 0, reasoningTokens: 0 },
        started,
        reserve: {
          ...turn.reserve,
          policyVersionApplied: 1n,
          effectiveModel: "m",
          effectiveTier: turn.tier,
        },
        overshootToleranceBp: 11_000n,
      });
      const ended = endTurn(tx, turn, state);
      const settled = settleQuota(tx, {
        tenantId: turn.actor.tenantId,
        userId: turn.actor.userId,
        turnId: turn.id,
        tier: turn.tier,
        method: bill.method,
        reservedCreditsMicro: turn.reserve.reservedCreditsMicro,
        committedCreditsMicro: bill.committedCreditsMicro,
        inputTokens: bill.method === "actual" ? BigInt(usage?.inputTokens ?? 0) : 0n,
        outputTokens: bill.method === "actual" ? BigInt(usage?.outputTokens ?? 0) : 0n,
        toolCounts: { ...noToolCalls, ...one.tools },
      });
      tx.commitNow();
      const [anomalies] = await Promise.all([settled, ended]);
      return { bill, anomalies };
    },
    { attempts: 1 },
  );

const endTurn = (tx: Tx, turn: SentTurn, state: TerminalState): Promise<unknown> => {
  const answer = state === "completed" ? uuidV4() : null;
  const stored =
    answer === null
      ? []
      : [
          tx.query(
            `insert into messages (id, tenant_id, chat_id, request_id, role)
             values ($1, $2, $3, $4, 'assistant')`,
            [answer, turn.actor.tenantId, turn.chatId, uuidV4()],
          ),
        ];
  return Promise.all([
    ...stored,
    tx.query(
      `update chat_turns set state = $2, completed_at = now(), assistant_message_id = $3 where id = $1`,
      [turn.id, state, answer],
    ),
  ]);
};

/** Polls until the condition holds; the time limit of the test bounds it. */
export const eventually = async (condition: () => Promise<boolean>): Promise<void> => {
  while (!(await condition())) await new Promise((resolve) => setTimeout(resolve, 5));
};
