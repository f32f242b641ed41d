import type { TenantId } from "../auth/actor.ts";
import type { Db } from "../db/pool.ts";
import type { Logger } from "../telemetry/log.ts";
import type { RunningTurns } from "./cancellation.ts";
import { recordProgress } from "./store.ts";

/**
 * The progress clock of every turn that runs here (turns.md §8): one statement every `everyMs`
 * moves them all, so 2,000 silent streams cost one write. The same statement brings back cancel
 * flags whose notification was lost (§16.1). Returns the stop function.
 */
export const startProgressClock = (deps: {
  db: Db;
  running: RunningTurns;
  logger: Logger;
  everyMs?: number;
}): (() => void) => {
  let busy = false;
  const tick = async (): Promise<void> => {
    const turns = deps.running.generating();
    if (busy || turns.length === 0) return;
    busy = true;
    try {
      await beat(deps, turns);
    } catch (error) {
      // Tried again at the next tick; the watchdog gives a turn ten of them.
      deps.logger.warn({ err: error, turns: turns.length }, "progress write failed");
    } finally {
      busy = false;
    }
  };
  const timer = setInterval(() => void tick(), deps.everyMs ?? 30_000);
  timer.unref();
  return () => clearInterval(timer);
};

const beat = async (
  deps: { db: Db; running: RunningTurns },
  turns: readonly { id: string; tenantId: TenantId }[],
): Promise<void> => {
  for (const flagged of await recordProgress(deps.db, turns)) {
    deps.running.cancel(flagged.id, flagged.reason === "chat_deleted" ? "chat_deleted" : "user_stop");
  }
};
