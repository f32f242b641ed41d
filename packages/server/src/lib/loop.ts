import { sleep } from "./sleep.ts";

export interface LoopOptions {
  readonly intervalMs: number;
  /** Delay before the first run; jobs of many processes start apart (ops.md §8). */
  readonly firstDelayMs?: number;
  readonly onError: (error: unknown) => void;
}

export interface Loop {
  /** Stops after the run under way, whose signal fires. */
  stop(): Promise<void>;
}

/** Runs `runOnce` every interval, never overlapping itself; an error is reported and the loop goes on. */
export const startLoop = (runOnce: (signal: AbortSignal) => Promise<void>, options: LoopOptions): Loop => {
  const controller = new AbortController();
  const { signal } = controller;
  const running = (async (): Promise<void> => {
    await sleep(options.firstDelayMs ?? options.intervalMs, signal);
    while (!signal.aborted) {
      try {
        await runOnce(signal);
      } catch (error) {
        if (!signal.aborted) options.onError(error);
      }
      await sleep(options.intervalMs, signal);
    }
  })();
  return {
    stop: async () => {
      controller.abort();
      await running;
    },
  };
};
