import { inTransaction } from "../db/tx.ts";
import { type Blocker, findBlockers, type PurgeDeps } from "./purge.ts";
import { deleteChatRow, findChatAcrossTenants, lockDeletedChat } from "./retention-store.ts";

/** Why a chat is not purged even by force: there is none, it is not deleted, or its books are open. */
export type Refusal = "unknown" | "not_deleted" | "running_turn";

export type Forced =
  | { readonly refused: Refusal }
  /** What an unforced purge would have waited for. */
  | { readonly refused: null; readonly overridden: readonly (Blocker | "grace_period")[] };

export interface ForceOptions {
  /** 0 = chats are never purged unforced. */
  readonly graceDays: number;
  readonly actor: string;
  readonly dryRun: boolean;
}

/**
 * Removes one deleted chat for good, whatever blocks it (data.md §4), and logs who did it and over what.
 * A running turn is no debt to be written off: without its row its reserve would be held for ever, so it is
 * waited for. What providers still hold of the chat stays there.
 */
export const forcePurge = async (deps: PurgeDeps, chatId: string, options: ForceOptions): Promise<Forced> => {
  const { db, logger, metrics } = deps;
  const { graceDays, actor, dryRun } = options;
  const chat = await findChatAcrossTenants(db, chatId);
  if (chat === null) return { refused: "unknown" };
  if (chat.deletedAt === null) return { refused: "not_deleted" };
  const holds = (await deps.findHolds(db, [chat])).get(chatId) ?? [];
  const forced = await inTransaction(db, async (tx): Promise<Forced> => {
    const [locked, due, found] = await Promise.all([
      lockDeletedChat(tx, chat, 0),
      lockDeletedChat(tx, chat, graceDays),
      findBlockers(tx, deps, chat),
    ]);
    if (!locked) return { refused: "unknown" };
    if (found.includes("running_turn")) return { refused: "running_turn" };
    const early = graceDays === 0 || !due;
    const overridden = [...(early ? (["grace_period"] as const) : []), ...holds, ...found];
    if (dryRun) return { refused: null, overridden };
    // Before the commit: a chat must never be gone without the line that tells who did it.
    logger.warn(
      { actor, chat_id: chatId, tenant_id: chat.tenantId, overridden, processing_stage: "cleanup" },
      "chat is purged by force",
    );
    await deleteChatRow(tx, chat);
    return { refused: null, overridden };
  });
  if (forced.refused === null && !dryRun) metrics.count("purge_deleted");
  return forced;
};
