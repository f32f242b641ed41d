import type { Actor } from "../auth/actor.ts";
import type { Db, Timestamp } from "../db/pool.ts";
import { inTransaction } from "../db/tx.ts";
import { AppError } from "../errors.ts";
import type { Reaction } from "./message.ts";
import { deleteReaction, upsertReaction } from "./reaction-store.ts";
import { findMessageRole } from "./store.ts";

/** A message of an already loaded chat. */
export interface MessagePlace {
  readonly chatId: string;
  readonly id: string;
}

/** Reaction as clients see it (api.md §3.2). */
export interface ReactionView {
  readonly message_id: string;
  readonly reaction: Reaction;
  readonly created_at: Timestamp;
}

const messageNotFound = (): AppError =>
  new AppError("message_not_found", { detail: "This chat has no such message." });

/**
 * The reaction a body names. Throws 400 for any other text: of all fields only this one is not 422
 * (api.md §1.4, turns.md §18).
 */
export const parseReaction = (text: string): Reaction => {
  if (text === "like" || text === "dislike") return text;
  const message = "must be like or dislike";
  throw new AppError("invalid_request", {
    title: "Validation Error",
    detail: `reaction ${message}.`,
    errors: [{ field: "reaction", message }],
  });
};

/**
 * Sets or changes the caller's reaction to an answer, partial ones too (turns.md §18). Throws 404 for
 * a message that is unknown, deleted or of another chat, 400 for one that is no answer.
 */
export const setReaction = async (
  db: Db,
  actor: Actor,
  message: MessagePlace,
  reaction: Reaction,
): Promise<ReactionView> => {
  const role = await findMessageRole(db, actor.tenantId, message.chatId, message.id);
  if (role === null) throw messageNotFound();
  if (role !== "assistant") {
    throw new AppError("invalid_reaction_target", { detail: "Only answers take reactions." });
  }
  const createdAt = await inTransaction(db, (tx) => upsertReaction(tx, actor, message, reaction));
  if (createdAt === null) throw messageNotFound();
  return { message_id: message.id, reaction, created_at: createdAt };
};

/** Takes the caller's reaction back, whether or not there is one; throws 404 as `setReaction`. */
export const removeReaction = async (db: Db, actor: Actor, message: MessagePlace): Promise<void> => {
  const role = await findMessageRole(db, actor.tenantId, message.chatId, message.id);
  if (role === null) throw messageNotFound();
  await inTransaction(db, (tx) => deleteReaction(tx, actor, message));
};
