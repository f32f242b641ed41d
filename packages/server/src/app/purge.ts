import { findCleanupDebt } from "../attachments/debt-store.ts";
import type { PurgeDeps } from "../chats/purge.ts";
import type { Config } from "../config/schema.ts";
import { findChatHolds } from "../outbox/chat-store.ts";
import { queueSettings } from "../outbox/queue.ts";
import { hasRunningTurn } from "../turns/chat-store.ts";

/** What a purge asks the slices a chat is spread over; also for the command line, so nothing of a server. */
export const purgeDeps = ({
  config,
  ...ground
}: Pick<PurgeDeps, "db" | "logger" | "metrics"> & { readonly config: Pick<Config, "outbox"> }): PurgeDeps => {
  const { chat_cleanup: _, ...others } = queueSettings(config.outbox);
  const otherQueues = Object.values(others).map(({ name }) => name);
  return {
    ...ground,
    findHolds: (db, chats) => findChatHolds(db, chats, otherQueues),
    hasRunningTurn,
    findCleanupDebt,
  };
};
