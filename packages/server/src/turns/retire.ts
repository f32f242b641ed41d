import type { Actor } from "../auth/actor.ts";
import type { Authorizer } from "../auth/authorize.ts";
import { chatNotFound } from "../chats/chat.ts";
import { enterChat } from "../chats/open.ts";
import { touchChat } from "../chats/store.ts";
import type { Db, Timestamp } from "../db/pool.ts";
import type { Tx } from "../db/tx.ts";
import { AppError } from "../errors.ts";
import { deleteMessagesOfTurn, uncompressMessages } from "../messages/mutation-store.ts";
import { deleteSummaryCovering } from "../summaries/reset-store.ts";
import { findMutationTarget, lockLatestTurn, type MutationTarget, softDeleteTurn } from "./mutation-store.ts";

export type MutationOp = "retry" | "edit" | "delete";

/** The turn a mutation names. */
export interface NamedTurn {
  readonly op: MutationOp;
  readonly chatId: string;
  readonly requestId: string;
  /** `if_turn_updated_at`: the mutation is refused when the turn changed since. */
  readonly ifUpdatedAt: Timestamp | null;
}

export interface EnterTurnDeps {
  readonly db: Db;
  readonly authorizer: Authorizer;
}

const actionOf = { retry: "retry_turn", edit: "edit_turn", delete: "delete_turn" } as const;

export const notLatestTurn = (): AppError =>
  new AppError("not_latest_turn", { detail: "Only the latest turn of a chat can be changed." });

const invalidTurnState = (): AppError =>
  new AppError("invalid_turn_state", { detail: "A running turn cannot be changed; cancel it first." });

/**
 * Rows 1–6 of turns.md §15.1, strictly in that order: reads only. What may have changed by the time of
 * the transaction is checked again in `retireLatest`.
 */
export const enterTurn = async (
  deps: EnterTurnDeps,
  actor: Actor,
  named: NamedTurn,
): Promise<{ readonly turn: MutationTarget; readonly selectedModel: string }> => {
  const { model } = await enterChat(deps, actor, named.chatId, actionOf[named.op], {
    notFound: "chat_not_found",
    forbidden: "forbidden",
  });
  const turn = await findMutationTarget(deps.db, actor.tenantId, named);
  if (turn === null) throw new AppError("turn_not_found", { detail: "This chat has no such turn." });
  if (turn.requesterUserId !== actor.userId) {
    throw new AppError("forbidden", { title: "forbidden", detail: "The turn is another user's." });
  }
  if (turn.state === "running") throw invalidTurnState();
  if (!turn.latest || !turn.unchanged) throw notLatestTurn();
  return { turn, selectedModel: model };
};

/** A turn that is soft-deleted, unless the transaction is rolled back. */
export interface RetiredTurn {
  readonly id: string;
  /** By the database: the time of the mutation. */
  readonly at: Timestamp;
}

/**
 * Takes the latest turn of a chat out of sight: the turn, its messages, and a thread summary that
 * holds their text (turns.md §15.2–15.3). Locks the chat, so that sends and other mutations of it
 * wait; whoever comes second finds another latest turn. Throws 404 for a chat deleted meanwhile,
 * `not_latest_turn` for a race lost.
 */
export const retireLatest = async (
  tx: Tx,
  actor: Actor,
  named: NamedTurn,
  replacedBy: string | null,
): Promise<RetiredTurn> => {
  const { tenantId } = actor;
  const { chatId, requestId } = named;
  const touched = touchChat(tx, actor, chatId);
  const locked = lockLatestTurn(tx, tenantId, chatId, named.ifUpdatedAt);
  locked.catch(() => {});
  if ((await touched).rowCount === 0) throw chatNotFound("chat_not_found");
  const latest = await locked;
  if (latest === null || latest.requestId !== requestId || !latest.unchanged) throw notLatestTurn();
  const [at, gone] = await Promise.all([
    softDeleteTurn(tx, tenantId, { id: latest.id, chatId }, replacedBy),
    deleteMessagesOfTurn(tx, tenantId, chatId, requestId),
  ]);
  if (at === null) throw invalidTurnState();
  if (await deleteSummaryCovering(tx, tenantId, chatId, gone)) await uncompressMessages(tx, tenantId, chatId);
  return { id: latest.id, at };
};
