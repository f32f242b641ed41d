import type { DirectConnection } from "../db/direct.ts";
import { startLoop } from "../lib/loop.ts";
import type { Handlers } from "../outbox/message.ts";
import type { Outbox } from "../outbox/outbox.ts";
import { cancelChannel, onCancelNotification } from "../turns/cancel.ts";
import { finalizeOrphans } from "../turns/orphans.ts";
import { startProgressClock } from "../turns/progress.ts";
import { logChannel, readerChannel } from "../turns/readers.ts";
import { startCleanup } from "./cleanup.ts";
import { jobLocks, startLeaderJob } from "./jobs.ts";
import { startLocalSweep } from "./local-files.ts";
import { startRetention } from "./retention.ts";
import type { Opened } from "./shutdown.ts";
import { overshootToleranceBp, type Parts } from "./turn-deps.ts";

/** A turn of a dead owner is an orphan after this time without progress (turns.md §12). */
const deadOwnerSecs = 30;

/** What runs beside requests, by role (ops.md §1, §8). */
export const startWork = async (
  parts: Parts,
  outbox: Outbox,
  handlers: Handlers,
  direct: DirectConnection,
  opened: Opened[],
): Promise<void> => {
  const { config } = parts;
  opened.push({ name: "outbox", close: () => outbox.stop() });
  if (config.role !== "api") {
    await outbox.start(handlers);
    startWatchdog(parts, direct, opened);
    startCleanup(parts, direct, opened);
    startLocalSweep(parts, direct, opened);
    startRetention(parts, direct, opened);
  }
  if (config.role !== "worker") await startTurnKeeping(parts, direct, opened);
};

/** What the turns of this process need: their progress clock, cancels from elsewhere, fresh policy. */
const startTurnKeeping = async (parts: Parts, direct: DirectConnection, opened: Opened[]): Promise<void> => {
  const { config, policy, logger } = parts;
  await direct.listen(cancelChannel, (payload) => onCancelNotification(parts.running, payload));
  await direct.listen(readerChannel, (turnId) => parts.readers.onReader(turnId));
  await direct.listen(logChannel, (turnId) => parts.readers.onAppended(turnId));
  opened.push({ name: "progress clock", close: startProgressClock(parts) });
  const reconcile = startLoop((signal) => policy.reconcile(signal), {
    intervalMs: config.policy_cache.reconcile_interval_secs * 1_000,
    onError: (error) => logger.warn({ err: error }, "policy not reconciled"),
  });
  opened.push({ name: "policy reconcile", close: reconcile.stop });
};

/** For so long a report may wait for a connection, or for an answer on a dead one. */
const longestHangSecs = (database: Parts["config"]["database"]): number =>
  Math.max(database.acquire_timeout_secs, database.statement_timeout_ms / 1_000 + 5);

const startWatchdog = (parts: Parts, direct: DirectConnection, opened: Opened[]): void => {
  const { config } = parts;
  const { enabled, scan_interval_secs: intervalSecs, timeout_secs: timeoutSecs } = config.orphan_watchdog;
  if (!enabled) return;
  const limits = {
    timeoutSecs,
    deadOwnerSecs,
    leaseSecs: config.instance_lease_secs,
    witnessSecs: config.instance_lease_secs + longestHangSecs(config.database),
  };
  const deps = { ...parts, overshootToleranceBp: overshootToleranceBp(config), failing: new Set<string>() };
  const job = startLeaderJob(
    { ...parts, direct },
    {
      name: "orphan_watchdog",
      lockId: jobLocks.orphanWatchdog,
      intervalMs: intervalSecs * 1_000,
      run: (signal) => finalizeOrphans(deps, limits, signal),
    },
  );
  opened.push({ name: "orphan watchdog", close: job.stop });
};
