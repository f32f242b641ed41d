import { randomUUID } from "node:crypto";
import type { Actor, TenantId } from "../auth/actor.ts";
import type { Db } from "../db/pool.ts";
import { inTransaction, type Tx } from "../db/tx.ts";
import type { OutboxEnqueuer } from "../outbox/enqueuer.ts";
import { chatNotFound } from "./chat.ts";
import { softDeleteChat } from "./store.ts";

/** What deleting a chat sets in motion in slices that know chats, bound in `app.ts`. */
export interface RemoveDeps {
  readonly db: Db;
  readonly outbox: Pick<OutboxEnqueuer, "enqueueChatCleanup" | "flush">;
  /** Marks the chat's attachments as pending cleanup (attachments.md §11). */
  readonly markAttachments: (tx: Tx, tenantId: TenantId, chatId: string) => Promise<void>;
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
    const [turnIds] = await Promise.all([
      deps.flagRunningTurns(tx, actor.tenantId, chatId),
      deps.markAttachments(tx, actor.tenantId, chatId),
      deps.outbox.enqueueChatCleanup(tx, {
        reason: "chat_soft_delete",
        tenant_id: actor.tenantId,
        chat_id: chatId,
        system_request_id: randomUUID(),
        chat_deleted_at: deletedAt,
      }),
    ]);
    tx.afterCommit(deps.outbox.flush);
    if (turnIds.length > 0) tx.afterCommit(() => deps.stopTurns(turnIds));
  });
