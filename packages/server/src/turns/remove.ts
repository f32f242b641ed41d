import { deleteAuditEvent } from "../audit/event.ts";
import type { Actor } from "../auth/actor.ts";
import { inTransaction } from "../db/tx.ts";
import { type EnterTurnDeps, enterTurn, type NamedTurn, retireLatest } from "./retire.ts";
import type { TurnOutbox } from "./settle.ts";

export interface RemoveTurnDeps extends EnterTurnDeps {
  readonly outbox: TurnOutbox;
}

/**
 * Deletes the latest turn with its messages, for good; what it cost stays charged (turns.md §15). The
 * audit event commits with it. Throws the refusals of §15.1. Returns the id of the turn.
 */
export const removeTurn = async (
  deps: RemoveTurnDeps,
  actor: Actor,
  named: NamedTurn,
  traceId: string,
): Promise<string> => {
  await enterTurn(deps, actor, named);
  return inTransaction(deps.db, async (tx) => {
    const { id, at } = await retireLatest(tx, actor, named, null);
    const event = deleteAuditEvent({
      tenantId: actor.tenantId,
      requesterType: actor.subjectType,
      actorUserId: actor.userId,
      chatId: named.chatId,
      turnId: id,
      requestId: named.requestId,
      traceId,
      timestamp: at,
    });
    const enqueued = deps.outbox.enqueueMany(tx, [{ kind: "audit", event }]);
    tx.afterCommit(deps.outbox.flush);
    tx.commitNow();
    await enqueued;
    return id;
  });
};
