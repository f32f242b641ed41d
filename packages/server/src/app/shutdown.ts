import type { RunningUploads } from "../attachments/running.ts";
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
 * The first phases of a stop (ops.md §9): balancers notice, running turns and uploads end or, as soon as it
 * is hurried by an error nobody caught, are ended.
 */
export const drain = async (
  deps: {
    readonly config: Pick<Config, "shutdown_ready_delay_secs" | "shutdown_grace_secs">;
    readonly running: RunningTurns;
    readonly uploads: RunningUploads;
    readonly logger: Logger;
  },
  draining: Draining,
  hurried: AbortSignal,
): Promise<void> => {
  const { config, running, uploads, logger } = deps;
  const work = () => Promise.all([running.empty(), uploads.empty()]);
  draining.unready = true;
  await sleep(config.shutdown_ready_delay_secs * 1_000, hurried);
  draining.refusing = true;
  await within(config.shutdown_grace_secs * 1_000, work(), hurried);
  if (running.size > 0) logger.warn({ turns: running.size }, "running turns are ended by the shutdown");
  running.stopAll("server_shutdown");
  uploads.stopAll();
  await within(finalizeGraceMs, work());
  if (running.size > 0) logger.error({ turns: running.size }, "turns are left to the watchdog");
};

/**
 * Resolves when the work has ended, after `ms` or when it is hurried; true = it has ended. A timer left
 * behind would keep the process.
 */
export const within = async (ms: number, work: Promise<unknown>, hurried?: AbortSignal): Promise<boolean> => {
  const over = new AbortController();
  const due = hurried === undefined ? over.signal : AbortSignal.any([over.signal, hurried]);
  try {
    return await Promise.race([work.then(() => true), sleep(ms, due).then(() => false)]);
  } finally {
    over.abort();
  }
};

// Even a part whose time is over gets a moment: most need no more.
const leastMs = 100;

/**
 * Closes everything in reverse, in `budgetMs` altogether: a database that does not answer must not keep a
 * process that was told to stop. A failure is logged and does not keep the rest open.
 */
export const closeAll = async (
  opened: readonly Opened[],
  logger: Logger,
  budgetMs: number,
): Promise<void> => {
  const due = performance.now() + budgetMs;
  for (const { name, close } of opened.toReversed()) {
    const closing = (async () => close())();
    // One that is not waited for any more may still fail.
    closing.catch((error: unknown) => logger.warn({ err: error, part: name }, "could not be closed"));
    const ended = await within(Math.max(due - performance.now(), leastMs), closing).catch(() => true);
    if (!ended) logger.warn({ part: name }, "is left while it closes");
  }
};

/** The same part, closed once however often it is asked to. */
export const closedOnce = ({ name, close }: Opened): Opened => {
  let closed: Promise<unknown> | undefined;
  return {
    name,
    close: () => {
      closed ??= Promise.resolve().then(close);
      return closed;
    },
  };
};
