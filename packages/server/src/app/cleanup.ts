import { attachmentCleanupHandler } from "../attachments/cleanup-attachment.ts";
import { chatCleanupHandler } from "../attachments/cleanup-chat.ts";
import { reviveForgottenCleanups } from "../attachments/cleanup-reconcile.ts";
import { countBacklogAcrossTenants, countFailedAcrossTenants } from "../attachments/cleanup-scan-store.ts";
import type { FileKey } from "../attachments/cleanup-store.ts";
import { reconcileProviders } from "../attachments/reconcile.ts";
import { failStaleUploads } from "../attachments/stale.ts";
import type { DirectConnection } from "../db/direct.ts";
import type { Tx } from "../db/tx.ts";
import { startLoop } from "../lib/loop.ts";
import type { Handlers } from "../outbox/message.ts";
import { hasOutstandingCleanup } from "../outbox/outstanding-store.ts";
import { jobLocks, type LeaderJob, startLeaderJob } from "./jobs.ts";
import type { Opened } from "./shutdown.ts";
import type { Parts } from "./turn-deps.ts";

type CleanupParts = Pick<Parts, "config" | "db" | "storage" | "outbox" | "metrics" | "logger">;

/** What serves the queues of cleanup; switched off, their messages wait (ops.md §2.4). */
export const cleanupHandlers = (
  parts: CleanupParts,
): Pick<Handlers, "attachment_cleanup" | "chat_cleanup"> => {
  const { enabled, max_attempts: maxAttempts, ...worker } = parts.config.cleanup_worker;
  if (!enabled) return { attachment_cleanup: "keep_waiting", chat_cleanup: "keep_waiting" };
  const { retry_base_ms: baseMs, retry_max_ms: maxMs } = parts.config.outbox;
  const staleSecs = worker.stale_in_progress_timeout_secs;
  const deps = { ...parts, maxAttempts, staleSecs, retryDelay: { baseMs, maxMs } };
  return { attachment_cleanup: attachmentCleanupHandler(deps), chat_cleanup: chatCleanupHandler(deps) };
};

const dayMs = 86_400_000;
const gaugeIntervalMs = 60_000;

/** The jobs that see to it that nothing stays at a provider for ever (ops.md §8). */
export const cleanupJobs = (parts: CleanupParts): readonly LeaderJob[] => {
  const { cleanup_worker: worker, outbox: queues, reconcile } = parts.config;
  const deps = {
    ...parts,
    limits: { staleSecs: worker.stale_in_progress_timeout_secs, batchSize: worker.batch_size },
    isOutstanding: (tx: Tx, file: FileKey) =>
      hasOutstandingCleanup(tx, file, {
        attachmentCleanup: queues.cleanup_queue_name,
        chatCleanup: queues.chat_cleanup_queue_name,
      }),
  };
  const cleanup: LeaderJob = {
    name: "cleanup_reconciler",
    lockId: jobLocks.cleanup,
    intervalMs: worker.reconcile_interval_secs * 1_000,
    run: async (signal) => {
      await failStaleUploads(deps, signal);
      if (!signal.aborted) await reviveForgottenCleanups(deps, signal);
    },
  };
  const providers: LeaderJob = {
    name: "provider_reconciliation",
    lockId: jobLocks.reconciliation,
    intervalMs: dayMs,
    run: (signal) =>
      reconcileProviders(
        {
          ...parts,
          accounts: () => parts.storage.accounts(),
          graceSecs: reconcile.grace_secs,
          dryRun: reconcile.dry_run,
        },
        signal,
      ),
  };
  return [...(worker.enabled ? [cleanup] : []), ...(reconcile.enabled ? [providers] : [])];
};

/** Starts the jobs, and the gauges of what is still owed and what failed. */
export const startCleanup = (parts: CleanupParts, direct: DirectConnection, opened: Opened[]): void => {
  const { db, metrics, logger } = parts;
  for (const job of cleanupJobs(parts)) {
    opened.push({ name: job.name, close: startLeaderJob({ direct, metrics, logger }, job).stop });
  }
  const gauge = startLoop(
    async () => {
      const { pending, failed } = await countBacklogAcrossTenants(db);
      metrics.set("cleanup_backlog", { state: "pending", resource_type: "file" }, pending);
      metrics.set("cleanup_backlog", { state: "failed", resource_type: "file" }, failed);
      metrics.set("attachments_failed", {}, await countFailedAcrossTenants(db));
    },
    {
      intervalMs: gaugeIntervalMs,
      firstDelayMs: 0,
      onError: (error) => logger.warn({ err: error }, "gauges of attachments not available"),
    },
  );
  opened.push({ name: "cleanup backlog", close: gauge.stop });
};
