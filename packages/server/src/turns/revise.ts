import { findLinkedAttachmentIds, lockNamedAttachments } from "../attachments/store.ts";
import { mutationAuditEvent } from "../audit/event.ts";
import type { Actor } from "../auth/actor.ts";
import type { Tx } from "../db/tx.ts";
import { uuidV4 } from "../lib/id.ts";
import { findQuestion } from "../messages/mutation-store.ts";
import type { OutboxEvent } from "../outbox/events.ts";
import { requestFingerprint } from "./fingerprint.ts";
import { admitRequest, type Plan, type PreflightDeps, refuseBlank, type SendRequest } from "./preflight.ts";
import { enterTurn, notLatestTurn, type RetiredTurn, retireLatest } from "./retire.ts";

/** A parsed retry (`content` null) or edit. */
export interface ReviseRequest
  extends Pick<SendRequest, "onDisconnect" | "traceId" | "traceparent" | "receivedAt"> {
  readonly named: Replaced;
  /** As received, untrimmed; null takes the old question again. */
  readonly content: string | null;
}

type Replaced = NonNullable<Plan["replaces"]>;

/** A plan whose turn takes the place of another one. */
export interface RevisedPlan extends Plan {
  readonly replaces: Replaced;
}

export const isRevision = (plan: Plan): plan is RevisedPlan => plan.replaces !== null;

/**
 * The rows of turns.md §15.1 up to row 10 of §4.2, strictly in their order: reads only. The plan is
 * that of the equivalent send, under a new `request_id`: old or new content, the copied attachments,
 * the kept web-search flag.
 */
export const prepareRevision = async (
  deps: PreflightDeps,
  actor: Actor,
  revision: ReviseRequest,
): Promise<RevisedPlan> => {
  const { named, content, onDisconnect, traceId, traceparent, receivedAt } = revision;
  if (content !== null) refuseBlank(content);
  const { turn, selectedModel } = await enterTurn(deps, actor, named);
  const scope = [deps.db, actor.tenantId, named.chatId] as const;
  const question = await findQuestion(...scope, named.requestId);
  // Deleted since the turn was read.
  if (question === null) throw notLatestTurn();
  const request: SendRequest = {
    chatId: named.chatId,
    requestId: uuidV4(),
    content: content ?? question.content,
    attachmentIds: await findLinkedAttachmentIds(...scope, question.id),
    webSearch: turn.webSearch,
    onDisconnect,
    traceId,
    traceparent,
    receivedAt,
  };
  const policy = await admitRequest(deps, actor, request);
  const fingerprint = requestFingerprint(request);
  return { request, actor, fingerprint, selectedModel, policy, replaces: named };
};

/**
 * The first half of transaction 1 where a turn is replaced: takes the old turn out of sight and returns
 * the plan without the attachments that were deleted since it was made (attachments.md §10).
 */
export const replaceTurn = async (
  tx: Tx,
  plan: RevisedPlan,
): Promise<{ readonly plan: RevisedPlan; readonly retired: RetiredTurn }> => {
  const { actor, request, replaces } = plan;
  const retired = await retireLatest(tx, actor, replaces, request.requestId);
  if (request.attachmentIds.length === 0) return { plan, retired };
  const named = await lockNamedAttachments(tx, actor, request.chatId, request.attachmentIds);
  const live = new Set(named.filter((one) => !one.deleted).map((one) => one.id));
  const attachmentIds = request.attachmentIds.filter((id) => live.has(id));
  const narrowed = { ...request, attachmentIds };
  return { plan: { ...plan, request: narrowed, fingerprint: requestFingerprint(narrowed) }, retired };
};

/** What the audit learns of a replacement, in its transaction (turns.md §20). */
export const replacementEvent = (plan: RevisedPlan, retired: RetiredTurn): OutboxEvent => {
  const { actor, request, replaces } = plan;
  return {
    kind: "audit",
    event: mutationAuditEvent({
      eventType: replaces.op === "retry" ? "turn_retry" : "turn_edit",
      tenantId: actor.tenantId,
      requesterType: actor.subjectType,
      actorUserId: actor.userId,
      chatId: request.chatId,
      turnId: retired.id,
      originalRequestId: replaces.requestId,
      newRequestId: request.requestId,
      traceId: request.traceId,
      timestamp: retired.at,
    }),
  };
};
