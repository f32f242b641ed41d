import type { TenantId } from "../auth/actor.ts";
import type { Db } from "../db/pool.ts";
import { inTransaction, type Tx } from "../db/tx.ts";
import type { Logger } from "../telemetry/log.ts";
import { type CleanupDeps, scheduleChatCleanup } from "./cleanup.ts";
import {
  type ChatOfTenant,
  expireChat,
  lockExpiredChat,
  type ScanPosition,
  scanExpiredAcrossTenants,
  scanStart,
} from "./retention-store.ts";

export interface ExpireDeps extends CleanupDeps {
  readonly db: Db;
  readonly logger: Logger;
  /** Whether a turn of the chat is running; sees what committed before the chat was locked. */
  readonly hasRunningTurn: (tx: Tx, tenantId: TenantId, chatId: string) => Promise<boolean>;
}

const batchSize = 100;

/**
 * One sweep over temporary chats whose time is over (data.md §4): each is deleted as its owner would
 * delete it, in its own transaction, unless a turn is running; the next sweep finds that one again. A chat
 * that fails does not stop the sweep, the signal stops it between chats. Returns how many were deleted.
 */
export const expireTemporaryChats = async (deps: ExpireDeps, signal: AbortSignal): Promise<number> => {
  const { db, logger } = deps;
  const count = { expired: 0, postponed: 0 };
  for (let after: ScanPosition | undefined = scanStart; after !== undefined && !signal.aborted; ) {
    const batch = await scanExpiredAcrossTenants(db, after, batchSize);
    for (const chat of batch) {
      if (signal.aborted) break;
      try {
        const outcome = await expireOne(deps, chat);
        if (outcome !== "gone") count[outcome] += 1;
      } catch (error) {
        logger.error({ err: error, chat_id: chat.id, tenant_id: chat.tenantId }, "chat not expired");
      }
    }
    after = batch.length < batchSize ? undefined : batch.at(-1);
  }
  if (count.expired + count.postponed > 0) {
    logger.info({ ...count, processing_stage: "cleanup" }, "temporary chats expired");
  }
  return count.expired;
};

// A send locks the chat before it inserts its turn (turns.md §4.3): whoever comes first, the other sees it.
const expireOne = (deps: ExpireDeps, chat: ChatOfTenant): Promise<"expired" | "postponed" | "gone"> =>
  inTransaction(deps.db, async (tx) => {
    const { id: chatId, tenantId } = chat;
    const [locked, running] = await Promise.all([
      lockExpiredChat(tx, chat),
      deps.hasRunningTurn(tx, tenantId, chatId),
    ]);
    if (!locked) return "gone";
    if (running) return "postponed";
    const deletedAt = await expireChat(tx, chat);
    if (deletedAt === null) return "gone";
    await scheduleChatCleanup(tx, deps, { tenantId, chatId, deletedAt, reason: "temporary_chat_expired" });
    return "expired";
  });
