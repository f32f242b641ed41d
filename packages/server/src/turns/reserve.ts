import { findChatFiles } from "../attachments/chat-files-store.ts";
import { linkAttachments, lockNamedAttachments } from "../attachments/store.ts";
import { chatNotFound } from "../chats/chat.ts";
import { touchChat } from "../chats/store.ts";
import { type Db, isConnectionLost, violatedConstraint } from "../db/pool.ts";
import { inTransaction, type Tx } from "../db/tx.ts";
import { invariant } from "../lib/assert.ts";
import { uuidV4 } from "../lib/id.ts";
import { sleep } from "../lib/sleep.ts";
import { findPriorContextTokens, findRecentMessages, insertUserMessage } from "../messages/store.ts";
import { addReserve, lockQuotaRows } from "../quota/store.ts";
import { findSummary } from "../summaries/store.ts";
import type { Logger } from "../telemetry/log.ts";
import type { Metrics } from "../telemetry/metrics.ts";
import type { Cancellation, RunningTurns } from "./cancellation.ts";
import { type DecideDeps, type Decided, decideTurn, type Locked } from "./decide.ts";
import { readTurnEnd } from "./finalize-store.ts";
import { appendWithin } from "./log-store.ts";
import { observeBalances, observeRefused, observeReserved } from "./observe-preflight.ts";
import { generationInProgress, type Plan, refuseUnlessReplay } from "./preflight.ts";
import { isRevision, replacementEvent, replaceTurn } from "./revise.ts";
import type { RunningTurn } from "./running.ts";
import type { TurnOutbox } from "./settle.ts";
import { isResumable, startedEvent } from "./started.ts";
import { fillReserveColumns, findTurnsForSend, insertTurn, type TurnLookup } from "./store.ts";

export interface ReserveDeps extends DecideDeps {
  readonly db: Db;
  readonly outbox: TurnOutbox;
  readonly running: RunningTurns;
  readonly instanceId: string;
  readonly apiRoot: string;
  readonly metrics: Metrics;
  readonly logger: Logger;
}

/** A running turn with the handle that stops it, or the winner of the same `request_id`, to replay. */
export type Reserved =
  | { readonly kind: "running"; readonly turn: RunningTurn; readonly cancellation: Cancellation }
  | { readonly kind: "replay"; readonly turn: TurnLookup };

/**
 * Transaction 1 (turns.md §4.3): locks, decides, reserves and stores the question, all or nothing.
 * Two round trips: everything to read and lock, then everything to write with COMMIT behind it; a
 * retry or an edit first takes the old turn out of sight, in the same transaction (§15.2).
 * Throws the refusals of rows 11–19, 404 for a chat deleted meanwhile, 409 for a lost race.
 */
export const reserve = async (deps: ReserveDeps, plan: Plan): Promise<Reserved> => {
  const { actor, request } = plan;
  const turnId = uuidV4();
  // Known before the commit: a cancel that finds the row must find the turn as well.
  const cancellation = deps.running.add(turnId, actor.tenantId);
  let reserved: { readonly turn: RunningTurn; readonly decided: Decided } | null = null;
  try {
    await inTransaction(deps.db, (tx) =>
      attempt(deps, tx, plan, turnId, (outcome) => {
        reserved = outcome;
      }),
    );
    return admitted(deps, plan, reserved, cancellation);
  } catch (error) {
    // The answer to COMMIT may be what was lost: a turn that stands is run, or its chat would be blocked.
    if (reserved !== null && (await standsAfterLoss(deps, plan, turnId, error))) {
      return admitted(deps, plan, reserved, cancellation);
    }
    deps.running.remove(turnId);
    observeRefused(deps, plan, error);
    const index = violatedConstraint(error);
    if (index === "chat_turns_running_key") throw generationInProgress();
    if (index !== "chat_turns_request_key") throw error;
    const { same: winner } = await findTurnsForSend(
      deps.db,
      actor.tenantId,
      request.chatId,
      request.requestId,
    );
    if (winner === null) throw error;
    refuseUnlessReplay(deps.apiRoot, request.chatId, winner, plan.fingerprint);
    return { kind: "replay", turn: winner };
  }
};

interface Outcome {
  readonly turn: RunningTurn;
  readonly decided: Decided;
}

const admitted = (
  deps: ReserveDeps,
  plan: Plan,
  reserved: Outcome | null,
  cancellation: Cancellation,
): Reserved => {
  invariant(reserved !== null, "a committed turn was decided");
  observeReserved(deps, plan, reserved.decided);
  return { kind: "running", turn: reserved.turn, cancellation };
};

/** Waits before the looks, as finalization has them (turns.md §10.3): a failover takes its time. */
const lookAgainMs = [0, 200, 1_000, 3_000] as const;

const standsAfterLoss = async (
  deps: ReserveDeps,
  plan: Plan,
  turnId: string,
  error: unknown,
): Promise<boolean> => {
  if (!isConnectionLost(error)) return false;
  for (const wait of lookAgainMs) {
    await sleep(wait);
    try {
      return (await readTurnEnd(deps.db, plan.actor.tenantId, turnId))?.state === "running";
    } catch (lookError) {
      deps.logger.warn({ err: lookError, turn_id: turnId }, "cannot tell whether the turn was committed");
    }
  }
  return false;
};

const attempt = async (
  deps: ReserveDeps,
  tx: Tx,
  asked: Plan,
  turnId: string,
  onDecided: (outcome: Outcome) => void,
): Promise<void> => {
  const replacement = isRevision(asked) ? await replaceTurn(tx, asked) : null;
  const plan = replacement?.plan ?? asked;
  const { actor } = plan;
  const locked = await lockAndRead(deps, tx, plan, turnId);
  observeBalances(deps, plan, locked.quota);
  const decided = decideTurn(deps, plan, locked, turnId);
  const turn: RunningTurn = {
    id: turnId,
    actor,
    chatId: plan.request.chatId,
    requestId: plan.request.requestId,
    messageId: uuidV4(),
    selectedModel: plan.selectedModel,
    prompt: plan.request.content,
    onDisconnect: plan.request.onDisconnect,
    traceId: plan.request.traceId,
    receivedAt: plan.request.receivedAt,
    ...decided.running,
  };
  onDecided({ turn, decided });
  const writes = write(tx, plan, turnId, decided);
  if (isResumable(turn)) {
    const begin = { ...startedEvent(turn), seq: 0 };
    writes.push(appendWithin(tx, { id: turnId, tenantId: actor.tenantId }, [begin], "owner"));
  }
  if (replacement !== null) {
    const event = replacementEvent(replacement.plan, replacement.retired);
    writes.push(deps.outbox.enqueueMany(tx, [event]));
    tx.afterCommit(deps.outbox.flush);
  }
  tx.commitNow();
  await Promise.all(writes);
};

// Lock order: chat, turn, attachments, quota (data.md §1). Issued at once, one round trip; the
// snapshot boundary of turns.md §4.3 is the chat lock, behind which nothing is inserted, and no
// summary is committed: a message is found either among the recent ones or in the summary.
const lockAndRead = async (deps: ReserveDeps, tx: Tx, plan: Plan, turnId: string): Promise<Locked> => {
  const { actor, request } = plan;
  const scope = [tx, actor.tenantId, request.chatId] as const;
  // A mutation has locked the chat already.
  const touched = plan.replaces === null ? touchChat(tx, actor, request.chatId) : null;
  const inserted = insertTurn(tx, {
    id: turnId,
    tenantId: actor.tenantId,
    chatId: request.chatId,
    requestId: request.requestId,
    requesterType: actor.subjectType,
    requesterUserId: actor.userId,
    fingerprint: plan.fingerprint,
    webSearch: request.webSearch,
    onDisconnect: request.onDisconnect,
    ownerInstanceId: deps.instanceId,
  });
  const attachments =
    request.attachmentIds.length > 0
      ? lockNamedAttachments(tx, actor, request.chatId, request.attachmentIds)
      : Promise.resolve([]);
  const quota = lockQuotaRows(tx, actor, turnId);
  const files = findChatFiles(...scope);
  const recent = findRecentMessages(...scope, deps.recentMessagesLimit + 1);
  const summary = findSummary(...scope);
  const prior = findPriorContextTokens(...scope);
  const rest = Promise.all([attachments, quota, files, recent, summary, prior]);
  rest.catch(() => {});
  if (touched !== null && (await touched).rowCount === 0) throw chatNotFound("Error");
  await inserted;
  const [named, locked, found, messages, condensed, priorContextTokens] = await rest;
  return {
    attachments: named,
    quota: locked,
    files: found,
    recent: messages,
    summary: condensed,
    priorContextTokens,
  };
};

const write = (tx: Tx, plan: Plan, turnId: string, decided: Decided): Promise<unknown>[] => {
  const { actor, request } = plan;
  const messageId = uuidV4();
  return [
    addReserve(tx, actor, decided.reserveRows),
    fillReserveColumns(tx, { id: turnId, tenantId: actor.tenantId }, decided.reserve, {
      providerName: decided.running.target.providerId,
      downgradeReason: decided.running.decision.kind === "downgrade" ? decided.running.decision.reason : null,
    }),
    insertUserMessage(tx, {
      id: messageId,
      tenantId: actor.tenantId,
      chatId: request.chatId,
      requestId: request.requestId,
      content: request.content,
    }),
    ...(request.attachmentIds.length === 0
      ? []
      : [
          linkAttachments(tx, {
            tenantId: actor.tenantId,
            chatId: request.chatId,
            messageId,
            attachmentIds: request.attachmentIds,
          }),
        ]),
  ];
};
