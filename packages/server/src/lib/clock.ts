/** The process clock: for timers, durations and log lines. Stored times come from the database. */
export interface Clock {
  /** Milliseconds since the epoch. */
  now(): number;
}

export const systemClock: Clock = { now: () => Date.now() };
