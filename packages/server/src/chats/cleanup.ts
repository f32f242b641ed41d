import { randomUUID } from "node:crypto";
import type { TenantId } from "../auth/actor.ts";
import type { Timestamp } from "../db/pool.ts";
import type { Tx } from "../db/tx.ts";
import type { OutboxEnqueuer } from "../outbox/enqueuer.ts";
import type { ChatCleanupEvent } from "../outbox/events.ts";
import { wireMillis } from "../outbox/wire.ts";

export interface CleanupDeps {
  readonly outbox: Pick<OutboxEnqueuer, "enqueueChatCleanup" | "flush">;
  /** Marks the chat's attachments as pending cleanup (attachments.md §11). */
  readonly markAttachments: (tx: Tx, tenantId: TenantId, chatId: string) => Promise<void>;
}

/**
 * What every soft delete of a chat brings with it, in its transaction and whoever deleted it: the
 * attachments are marked and the cleanup event is written (outbox.md §4.3).
 */
export const scheduleChatCleanup = async (
  tx: Tx,
  deps: CleanupDeps,
  chat: {
    readonly tenantId: TenantId;
    readonly chatId: string;
    readonly deletedAt: Timestamp;
    readonly reason: ChatCleanupEvent["reason"];
  },
): Promise<void> => {
  await Promise.all([
    deps.markAttachments(tx, chat.tenantId, chat.chatId),
    deps.outbox.enqueueChatCleanup(tx, {
      reason: chat.reason,
      tenant_id: chat.tenantId,
      chat_id: chat.chatId,
      system_request_id: randomUUID(),
      chat_deleted_at: wireMillis(chat.deletedAt),
    }),
  ]);
  tx.afterCommit(deps.outbox.flush);
};
