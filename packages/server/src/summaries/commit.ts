import { lockLiveChat } from "../chats/store.ts";
import { plainTokens } from "../context/estimate.ts";
import type { Position } from "../context/position.ts";
import type { Db } from "../db/pool.ts";
import { inTransaction, type Tx } from "../db/tx.ts";
import { uuidV4 } from "../lib/id.ts";
import { compressRange, type LoadedRange } from "../messages/summary-store.ts";
import type { OutboxEnqueuer } from "../outbox/enqueuer.ts";
import type { ModelEntry } from "../policy/snapshot.ts";
import type { ProviderUsage } from "../providers/contract.ts";
import { systemUsageEvent } from "../usage/event.ts";
import type { Thread } from "./schedule.ts";
import { compareAndAdvance } from "./store.ts";
import type { ThreadSummary } from "./summary.ts";

export interface CommitDeps {
  readonly db: Db;
  readonly outbox: Pick<OutboxEnqueuer, "enqueueUsageEvent" | "flush">;
}

/** A summary as it was generated, with everything it was made of. */
export interface Draft {
  readonly thread: Thread;
  readonly systemRequestId: string;
  readonly base: ThreadSummary | null;
  readonly target: Position;
  readonly loaded: LoadedRange;
  readonly text: string;
  readonly model: ModelEntry;
  readonly usage: ProviderUsage | null;
}

/**
 * Why a draft was thrown away: the chat is deleted, another summary was first, or a message it tells of
 * is not there any more.
 */
export type Discarded = "chat_deleted" | "conflict" | "range_changed";

class DiscardedError extends Error {
  override name = "DiscardedError";
  readonly reason: Discarded;

  constructor(reason: Discarded) {
    super(reason);
    this.reason = reason;
  }
}

/**
 * Makes a draft the summary of its chat (context.md §6.4): frontier, flags on exactly its range and the
 * usage event, all or nothing, in two round trips. Behind the chat's lock nobody sends, mutates or
 * deletes; the rows of the range are locked as well, so that text deleted by anyone at any time is
 * either seen here or deletes the summary after it.
 */
export const commitSummary = async (deps: CommitDeps, draft: Draft): Promise<"committed" | Discarded> => {
  try {
    await inTransaction(deps.db, (tx) => write(tx, deps, draft));
    return "committed";
  } catch (error) {
    if (error instanceof DiscardedError) return error.reason;
    throw error;
  }
};

// Lock order: chat, messages, summary, outbox.
const write = async (tx: Tx, { outbox }: CommitDeps, draft: Draft): Promise<void> => {
  const { thread, base, target, loaded, model } = draft;
  const { tenantId, chatId } = thread;
  const [selectedModel, isWhole, at] = await Promise.all([
    lockLiveChat(tx, tenantId, chatId),
    compressRange(tx, { ...thread, after: base?.frontier ?? null, upTo: target }, loaded),
    compareAndAdvance(tx, {
      id: uuidV4(),
      tenantId,
      chatId,
      base,
      text: draft.text,
      tokenEstimate: plainTokens(draft.text, model.estimationBudgets),
      target,
    }),
  ]);
  if (selectedModel === null) throw new DiscardedError("chat_deleted");
  if (at === null) throw new DiscardedError("conflict");
  if (!isWhole) throw new DiscardedError("range_changed");
  const enqueued = outbox.enqueueUsageEvent(
    tx,
    systemUsageEvent({
      tenantId,
      chatId,
      systemRequestId: draft.systemRequestId,
      systemTaskType: "thread_summary_update",
      model: model.id,
      selectedModel,
      usage: draft.usage,
      timestamp: at,
    }),
  );
  tx.afterCommit(outbox.flush);
  tx.commitNow();
  await enqueued;
};
