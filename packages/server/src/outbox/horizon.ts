import type { HorizonReading } from "./store.ts";

/** Up to which id all messages are decided: committed and visible, or never to come. */
export interface Horizon {
  /** 0 until anything is known. */
  readonly closed: bigint;
  /** Whether it is time for another reading. */
  due(now: number): boolean;
  learn(reading: HorizonReading, now: number): void;
}

// Claims start behind the horizon, so this bounds the deleted messages they step over: those of about
// two seconds, instead of all since the oldest snapshot of the database.
const intervalMs = 1_000;

/**
 * Follows the horizon by readings (outbox-engine.md O4: however late a transaction commits, its message
 * is not skipped). An id is closed once every writer there was when it was the last one is gone.
 */
export const createHorizon = (): Horizon => {
  let closed = 0n;
  let candidate = 0n;
  let awaited: readonly string[] = [];
  let readAt = Number.NEGATIVE_INFINITY;
  return {
    get closed() {
      return closed;
    },
    due: (now) => now - readAt >= intervalMs,
    learn: ({ lastId, writers }, now) => {
      readAt = now;
      // The ids began anew, as after loading a dump.
      if (lastId < candidate) closed = 0n;
      else if (writers.length === 0) closed = lastId;
      else if (awaited.some((writer) => writers.includes(writer))) return;
      else closed = candidate;
      candidate = lastId;
      awaited = writers;
    },
  };
};
