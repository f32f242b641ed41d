import { markChatAttachmentsForCleanup } from "../attachments/store.ts";
import { expireTemporaryChats } from "../chats/expire.ts";
import { type PurgeProgress, purgeChats } from "../chats/purge.ts";
import { scanStart } from "../chats/retention-store.ts";
import type { DirectConnection } from "../db/direct.ts";
import { removeStaleInstances } from "../db/instances.ts";
import { inTransaction } from "../db/tx.ts";
import { purgeDeadLetters } from "../outbox/dead-letters.ts";
import { deleteExpiredSnapshots } from "../policy/retention.ts";
import { deleteExpiredUsage } from "../quota/retention.ts";
import { hasRunningTurn } from "../turns/chat-store.ts";
import { expireLogs } from "../turns/expire-logs.ts";
import { jobLocks, type LeaderJob, startLeaderJob } from "./jobs.ts";
import { purgeDeps } from "./purge.ts";
import type { Opened } from "./shutdown.ts";
import type { Parts } from "./turn-deps.ts";

const minuteMs = 60_000;
const hourMs = 60 * minuteMs;

// Any time beyond the lease would do, since an absent owner is as dead as a silent one; a day is left to
// whoever looks for what ran.
const silentInstanceSecs = 86_400;

type RetentionParts = Pick<Parts, "config" | "db" | "outbox" | "metrics" | "logger">;

/** What removes data whose time is over (data.md §4, ops.md §8). */
export const retentionJobs = (parts: RetentionParts): readonly LeaderJob[] => {
  const { config, db } = parts;
  const { quota_days: quotaDays, policy_days: policyDays } = config.retention;
  const hourly = { lockId: jobLocks.retention, intervalMs: hourMs };
  const letters = { olderThanDays: config.outbox.dead_letter_retention_days };
  return [
    temporaryChatExpiry(parts),
    ...hardPurge(parts),
    { name: "quota_retention", ...hourly, run: (signal) => deleteExpiredUsage(db, quotaDays, signal) },
    { name: "policy_retention", ...hourly, run: (signal) => deleteExpiredSnapshots(db, policyDays, signal) },
    {
      name: "instance_retention",
      ...hourly,
      run: () => inTransaction(db, (tx) => removeStaleInstances(tx, silentInstanceSecs)),
    },
    {
      name: "dead_letter_retention",
      ...hourly,
      run: (signal) => purgeDeadLetters(parts, letters, { actor: "retention", signal }),
    },
    {
      name: "turn_log_retention",
      ...hourly,
      run: (signal) => expireLogs(db, config.resume.retention_secs, signal),
    },
  ];
};

const temporaryChatExpiry = (parts: RetentionParts): LeaderJob => {
  const deps = { ...parts, markAttachments: markChatAttachmentsForCleanup, hasRunningTurn };
  return {
    name: "temporary_chat_expiry",
    lockId: jobLocks.chatExpiry,
    intervalMs: minuteMs,
    run: (signal) => expireTemporaryChats(deps, signal),
  };
};

const hardPurge = (parts: RetentionParts): readonly LeaderJob[] => {
  const { chat_grace_days: graceDays } = parts.config.retention;
  if (graceDays === 0) return [];
  const deps = purgeDeps(parts);
  const progress: PurgeProgress = { after: scanStart };
  return [
    {
      name: "chat_purge",
      lockId: jobLocks.purge,
      intervalMs: hourMs,
      run: (signal) => purgeChats(deps, { graceDays, signal, progress }),
    },
  ];
};

/** Starts them all; each runs on one process at a time. */
export const startRetention = (parts: Parts, direct: DirectConnection, opened: Opened[]): void => {
  for (const job of retentionJobs(parts)) {
    opened.push({ name: job.name, close: startLeaderJob({ ...parts, direct }, job).stop });
  }
};
