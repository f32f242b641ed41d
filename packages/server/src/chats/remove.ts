import type { Actor, TenantId } from "../auth/actor.ts";
import type { Db } from "../db/pool.ts";
import { inTransaction, type Tx } from "../db/tx.ts";
import { chatNotFound } from "./chat.ts";
import { type CleanupDeps, scheduleChatCleanup } from "./cleanup.ts";
import { softDeleteChat } from "./store.ts";

/** What deleting a chat sets in motion in slices that know chats, bound in `app.ts`. */
export interface RemoveDeps extends CleanupDeps {
  readonly db: Db;
  /** Flags the chat's running turns for cancellation; returns their ids (turns.md §16.1). */
  readonly flagRunningTurns: (tx: Tx, tenantId: TenantId, chatId: string) => Promise<string[]>;
  /** After the commit: stops these turns wherever they run. */
  readonly stopTurns: (turnIds: readonly string[]) => void;
}

/**
 * Soft-deletes the caller's chat, for good: the row, its attachments' cleanup and the cleanup event
 * commit together. A running turn is asked to stop and settles normally (turns.md §19). Throws 404
 * when the chat is not visible, so a second delete is a 404 as well.
 */
export const removeChat = (deps: RemoveDeps, actor: Actor, chatId: string): Promise<void> =>
  inTransaction(deps.db, async (tx) => {
    const deletedAt = await softDeleteChat(tx, actor, chatId);
    if (deletedAt === null) throw chatNotFound();
    const { tenantId } = actor;
    const [turnIds] = await Promise.all([
      deps.flagRunningTurns(tx, tenantId, chatId),
      scheduleChatCleanup(tx, deps, { tenantId, chatId, deletedAt, reason: "chat_soft_delete" }),
    ]);
    if (turnIds.length > 0) tx.afterCommit(() => deps.stopTurns(turnIds));
  });
