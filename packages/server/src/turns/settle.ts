import type { CountHit } from "../audit/redact.ts";
import type { UserId } from "../auth/actor.ts";
import { isTransient, type Tx } from "../db/tx.ts";
import { insertAssistantMessage } from "../messages/store.ts";
import type { OutboxEnqueuer } from "../outbox/enqueuer.ts";
import { type QuotaAnomaly, settleQuota } from "../quota/store.ts";
import { scheduleSummary } from "../summaries/schedule.ts";
import type { Metrics } from "../telemetry/metrics.ts";
import { type Bill, billTurn } from "./billing.ts";
import type { Ending } from "./ending.ts";
import { turnEvents } from "./events.ts";
import { type FinalizedRow, setAssistantMessage } from "./finalize-store.ts";
import { appendWithin } from "./log-store.ts";
import type { ToolCounts } from "./turn.ts";

export interface SettleDeps {
  readonly outbox: TurnOutbox;
  readonly overshootToleranceBp: bigint;
  readonly metrics: Metrics;
}

/** What ending a turn needs of the outbox. */
export type TurnOutbox = Pick<OutboxEnqueuer, "enqueueMany" | "flush">;

/** What transaction 2 did, for metrics after the commit. */
export interface Settlement {
  readonly row: FinalizedRow;
  readonly bill: Bill;
  readonly anomalies: readonly QuotaAnomaly[];
}

/** The message insert failed: the transaction is run again without it (turns.md §10.3). */
export class MessagePersistenceError extends Error {
  override name = "MessagePersistenceError";
}

/**
 * The rest of transaction 2 after its compare-and-set was won: bill, settle, store the answer,
 * enqueue usage and audit. One round trip, COMMIT included; all inputs come from the row, so that
 * configuration and policy of today play no part. Where a summary may be due, COMMIT and its task wait
 * for a look at the thread: one round trip more.
 */
export const settleEnded = async (
  tx: Tx,
  deps: SettleDeps,
  row: FinalizedRow,
  ending: Ending,
): Promise<Settlement> => {
  const tools = {
    webSearch: row.webSearchCount,
    codeInterpreter: row.codeInterpreterCount,
    fileSearch: row.fileSearchCount,
  };
  const bill = billTurn({
    state: ending.state,
    errorCode: ending.errorCode,
    usage: ending.usage,
    started: ending.started,
    reserve: row.reserve,
    overshootToleranceBp: deps.overshootToleranceBp,
  });
  // The message goes first: whatever fails behind it in the batch cannot be mistaken for its failure.
  const stored = ending.answer === null ? [] : storeAnswer(tx, row, ending, ending.answer, tools);
  const redactions: Parameters<CountHit>[0][] = [];
  const events = turnEvents(row, ending, bill, tools, (pattern) => redactions.push(pattern));
  tx.afterCommit(() => {
    for (const pattern of redactions) deps.metrics.count("audit_redaction_hits", { pattern });
  });
  const settled = settle(tx, row, ending, bill, tools);
  const turn = { id: row.id, tenantId: ending.tenantId };
  const logged = ending.log === null ? null : appendWithin(tx, turn, ending.log.events, ending.log.writer);
  const enqueued = deps.outbox.enqueueMany(tx, events);
  tx.afterCommit(deps.outbox.flush);
  const thread = { tenantId: ending.tenantId, chatId: row.chatId };
  const scheduled = ending.summary === null ? null : scheduleSummary(tx, deps, thread, ending.summary);
  scheduled?.catch(() => {});
  if (scheduled === null) tx.commitNow();
  const [message] = await Promise.allSettled([...stored, settled, logged, enqueued]);
  if (stored.length > 0 && message?.status === "rejected" && !isTransient(message.reason)) {
    throw new MessagePersistenceError("message not stored", { cause: message.reason });
  }
  const [anomalies] = await Promise.all([settled, logged, enqueued, ...stored]);
  await scheduled;
  return { row, bill, anomalies };
};

const settle = async (
  tx: Tx,
  row: FinalizedRow,
  ending: Ending,
  bill: Bill,
  tools: ToolCounts,
): Promise<readonly QuotaAnomaly[]> => {
  // Nothing was reserved, or nobody is charged: no row is touched.
  if (row.reserve === null || row.requesterUserId === null) return [];
  return settleQuota(tx, {
    tenantId: ending.tenantId,
    userId: row.requesterUserId as UserId,
    turnId: row.id,
    tier: row.reserve.effectiveTier,
    method: bill.method,
    reservedCreditsMicro: row.reserve.reservedCreditsMicro,
    committedCreditsMicro: bill.committedCreditsMicro,
    inputTokens: bill.method === "actual" ? BigInt(ending.usage?.inputTokens ?? 0) : 0n,
    outputTokens: bill.method === "actual" ? BigInt(ending.usage?.outputTokens ?? 0) : 0n,
    toolCounts: tools,
  });
};

const storeAnswer = (
  tx: Tx,
  row: FinalizedRow,
  ending: Ending,
  answer: NonNullable<Ending["answer"]>,
  tools: ToolCounts,
): Promise<unknown>[] => [
  insertAssistantMessage(tx, {
    id: answer.id,
    tenantId: ending.tenantId,
    chatId: row.chatId,
    requestId: row.requestId,
    content: answer.content,
    model: answer.model,
    providerResponseId: ending.responseId,
    usage: ending.usage,
    citations: answer.citations.length > 0 ? answer.citations : null,
    featuresUsed: [
      ...(tools.fileSearch > 0 ? (["file_search"] as const) : []),
      ...(tools.webSearch > 0 ? (["web_search"] as const) : []),
      ...(tools.codeInterpreter > 0 ? (["code_interpreter"] as const) : []),
    ],
  }),
  setAssistantMessage(tx, { id: row.id, tenantId: ending.tenantId }, answer.id),
];
