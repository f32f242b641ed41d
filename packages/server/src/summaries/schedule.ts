import type { TenantId } from "../auth/actor.ts";
import type { Tx } from "../db/tx.ts";
import { uuidV4 } from "../lib/id.ts";
import { findNewestMessages } from "../messages/summary-store.ts";
import type { OutboxEnqueuer } from "../outbox/enqueuer.ts";
import type { ThreadSummaryTaskPayload } from "../outbox/events.ts";
import type { Metrics } from "../telemetry/metrics.ts";
import { findFrontier } from "./store.ts";
import { type SummaryTrigger, targetDepth, targetOf } from "./trigger.ts";

export interface ScheduleDeps {
  readonly outbox: Pick<OutboxEnqueuer, "enqueueMany">;
  readonly metrics: Metrics;
}

/** Whose thread. */
export interface Thread {
  readonly tenantId: TenantId;
  readonly chatId: string;
}

/**
 * Enqueues the summary a turn has made due, in the transaction that ends the turn, and sends its
 * COMMIT: issue nothing else afterwards. The range is frozen here (context.md §6.2); a range that was
 * frozen before and waits is no reason not to, the frontier decides which of them counts.
 */
export const scheduleSummary = async (
  tx: Tx,
  { outbox, metrics }: ScheduleDeps,
  thread: Thread,
  { reason, keepRecent }: SummaryTrigger,
): Promise<void> => {
  const [frontier, newest] = await Promise.all([
    findFrontier(tx, thread.tenantId, thread.chatId),
    findNewestMessages(tx, thread.tenantId, thread.chatId, targetDepth(keepRecent)),
  ]);
  if (reason === "threshold" && frontier !== null) {
    tx.commitNow();
    return;
  }
  const target = targetOf(newest, keepRecent, frontier);
  const result = target === null ? "not_needed" : "scheduled";
  tx.afterCommit(() => metrics.count("thread_summary_trigger", { result }));
  const event = target === null ? null : taskOf(thread, frontier, target);
  const enqueued = event === null ? null : outbox.enqueueMany(tx, [{ kind: "thread_summary", event }]);
  tx.commitNow();
  await enqueued;
};

const taskOf = (
  { tenantId, chatId }: Thread,
  base: Awaited<ReturnType<typeof findFrontier>>,
  target: NonNullable<ReturnType<typeof targetOf>>,
): ThreadSummaryTaskPayload => ({
  tenant_id: tenantId,
  chat_id: chatId,
  // The identity of the task over all deliveries: in calls, usage and logs.
  system_request_id: uuidV4(),
  system_task_type: "thread_summary_update",
  base_frontier_created_at: base?.createdAt ?? null,
  base_frontier_message_id: base?.id ?? null,
  frozen_target_created_at: target.createdAt,
  frozen_target_message_id: target.id,
});
