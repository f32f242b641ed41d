import type { Config } from "../config/schema.ts";
import { sleep } from "../lib/sleep.ts";
import type { Logger } from "../telemetry/log.ts";
import type { RunningTurns } from "../turns/cancellation.ts";

/** Something opened during the start, closed in reverse order. */
export interface Opened {
  readonly name: string;
  readonly close: () => Promise<unknown> | unknown;
}

/** How far the process is on its way out: `unready` tells balancers, `draining` refuses new turns. */
export interface Draining {
  unready: boolean;
  refusing: boolean;
}

const finalizeGraceMs = 5_000;

/**
 * The first phases of a stop (ops.md §9): balancers notice, running turns end or, at once when `hurried`
 * by an error nobody caught, are ended.
 */
export const drain = async (
  deps: {
    readonly config: Pick<Config, "shutdown_ready_delay_secs" | "shutdown_grace_secs">;
    readonly running: RunningTurns;
    readonly logger: Logger;
  },
  draining: Draining,
  hurried: boolean,
): Promise<void> => {
  const { config, running, logger } = deps;
  draining.unready = true;
  if (!hurried) await sleep(config.shutdown_ready_delay_secs * 1_000);
  draining.refusing = true;
  if (!hurried) await Promise.race([running.empty(), sleep(config.shutdown_grace_secs * 1_000)]);
  if (running.size > 0) logger.warn({ turns: running.size }, "running turns are ended by the shutdown");
  running.stopAll("server_shutdown");
  await Promise.race([running.empty(), sleep(finalizeGraceMs)]);
  if (running.size > 0) logger.error({ turns: running.size }, "turns are left to the watchdog");
};

/** Closes everything in reverse; a failure is logged and does not keep the rest open. */
export const closeAll = async (opened: readonly Opened[], logger: Logger): Promise<void> => {
  for (const { name, close } of opened.toReversed()) {
    try {
      await close();
    } catch (error) {
      logger.warn({ err: error, part: name }, "could not be closed");
    }
  }
};
