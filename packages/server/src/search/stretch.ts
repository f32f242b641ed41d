import type { Timestamp } from "../db/pool.ts";
import type { Cursor } from "../http/paging.ts";

/**
 * A stretch of time to look for hits in. A word that is everywhere fills its page from the newest messages,
 * so the index is asked for those first, by its keys of 30 days (migration 0006), and for everything only
 * when they do not fill the page.
 */
export interface Stretch {
  /** The periods messages of this time have keys of; 0 = any. */
  readonly periods: readonly number[];
  /** Inclusive. */
  readonly from: string;
  /** Exclusive. */
  readonly until: string;
}

const periodMs = 2_592_000_000;

export const everything: Stretch = { periods: [0], from: "-infinity", until: "infinity" };

/** The same number as `search_period` gives. */
const periodOf = (at: Timestamp): number => Math.floor(Date.parse(at) / periodMs);

/** Outside of the years 1–9999, which only a forged cursor knows, there is nothing. */
const startOf = (period: number): string => {
  const start = new Date(period * periodMs);
  const year = start.getUTCFullYear();
  if (year < 1) return "-infinity";
  return year > 9999 ? "infinity" : start.toISOString();
};

/** The 30 to 60 days from a cursor on, in its direction; without one, those up to now. */
export const nearStretch = (cursor: Cursor | null, now: Timestamp): Stretch => {
  const period = periodOf(cursor?.keys[0] ?? now);
  if (cursor?.direction === "prev")
    return { periods: [period, period + 1], from: "-infinity", until: startOf(period + 2) };
  const from = startOf(period - 1);
  if (cursor !== null) return { periods: [period - 1, period], from, until: "infinity" };
  // The clock may reach the next period meanwhile.
  return { periods: [period - 1, period, period + 1], from, until: startOf(period + 2) };
};
