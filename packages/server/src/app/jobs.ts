import type { DirectConnection } from "../db/direct.ts";
import { type Loop, startLoop } from "../lib/loop.ts";
import type { Logger } from "../telemetry/log.ts";
import type { Metrics } from "../telemetry/metrics.ts";

export interface LeaderJob {
  readonly name: string;
  /** Second key of the advisory lock (ops.md §8). */
  readonly lockId: number;
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
