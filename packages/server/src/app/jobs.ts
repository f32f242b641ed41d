import type { DirectConnection } from "../db/direct.ts";
import { type Loop, startLoop } from "../lib/loop.ts";
import type { Logger } from "../telemetry/log.ts";
import type { Metrics } from "../telemetry/metrics.ts";

/** Second keys of the advisory locks, all in one place (ops.md §8); the database migrates under 100. */
export const jobLocks = {
  orphanWatchdog: 1,
  cleanup: 2,
  chatExpiry: 3,
  purge: 4,
  /** Everything that is only kept for a time. */
  retention: 5,
  reconciliation: 6,
  localSweep: 11,
} as const;

export interface LeaderJob {
  readonly name: string;
  readonly lockId: (typeof jobLocks)[keyof typeof jobLocks];
  readonly intervalMs: number;
  /** One run; obeys the signal between rows. */
  readonly run: (signal: AbortSignal) => Promise<unknown>;
}

/** A job that waited for a day to begin would not run at all where processes are replaced more often. */
const maxFirstDelayMs = 300_000;

/**
 * Runs a job on one process at a time: the lock is taken for each run and only saves work, since every
 * row is handled by a conditional update. The signal fires on stop and when the lock is lost.
 */
export const startLeaderJob = (
  deps: {
    readonly direct: Pick<DirectConnection, "withLock">;
    readonly metrics: Metrics;
    readonly logger: Logger;
  },
  job: LeaderJob,
): Loop => {
  const { direct, metrics, logger } = deps;
  const labels = { job: job.name };
  let led = false;
  const leads = (now: boolean): void => {
    if (now === led) return;
    led = now;
    logger.info({ job: job.name, leader: now }, "leader change");
  };
  return startLoop(
    async (stopped) => {
      try {
        const held = await direct.withLock(job.lockId, async (lost) => {
          metrics.set("leader", labels, 1);
          leads(true);
          await job.run(AbortSignal.any([stopped, lost]));
        });
        if (!held) leads(false);
      } finally {
        metrics.set("leader", labels, 0);
      }
    },
    {
      intervalMs: job.intervalMs,
      firstDelayMs: Math.random() * Math.min(job.intervalMs, maxFirstDelayMs),
      onError: (error) => logger.error({ err: error, job: job.name }, "leader job failed"),
    },
  );
};
