import type { TenantId } from "../auth/actor.ts";
import type { Db } from "../db/pool.ts";
import type { Logger } from "../telemetry/log.ts";
import type { RunningTurns } from "./cancellation.ts";
import { recordProgress } from "./store.ts";

/**
 * The progress clock of every turn that runs here (turns.md §8): one statement every `everyMs`
 * moves them all, so 2,000 silent streams cost one write. The same statement brings back cancel
 * flags whose notification was lost (§16.1). A write that failed is tried again after a sixth of the time:
 * once the database is back, the watchdog waits no longer than an instance lease for it. Returns the
 * stop function.
 */
export const startProgressClock = (deps: {
  db: Db;
  running: RunningTurns;
  logger: Logger;
  everyMs?: number;
}): (() => void) => {
  const { everyMs = 30_000 } = deps;
  let stopped = false;
  let timer: NodeJS.Timeout | undefined;
  const wait = (ms: number): void => {
    if (stopped) return;
    timer = setTimeout(() => void tick(), ms);
    timer.unref();
  };
  const tick = async (): Promise<void> => {
    const turns = deps.running.generating();
    try {
      if (turns.length > 0) await beat(deps, turns);
      wait(everyMs);
    } catch (error) {
      deps.logger.warn({ err: error, turns: turns.length }, "progress write failed");
      wait(everyMs / 6);
    }
  };
  wait(everyMs);
  return () => {
    stopped = true;
    clearTimeout(timer);
  };
};

const beat = async (
  deps: { db: Db; running: RunningTurns },
  turns: readonly { id: string; tenantId: TenantId }[],
): Promise<void> => {
  for (const flagged of await recordProgress(deps.db, turns)) {
    deps.running.cancel(flagged.id, flagged.reason === "chat_deleted" ? "chat_deleted" : "user_stop");
  }
};
