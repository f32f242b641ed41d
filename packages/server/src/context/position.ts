import type { Timestamp } from "../db/pool.ts";

/** A place in the total order of a chat's messages, `(created_at, id)` (turns.md §1). */
export interface Position {
  readonly createdAt: Timestamp;
  readonly id: string;
}

/** Less than 0 when `a` comes before `b`, 0 when both are the same place; microseconds count. */
export const comparePositions = (a: Position, b: Position): number =>
  compareText(sortable(a.createdAt), sortable(b.createdAt)) || compareText(a.id, b.id);

// The database cuts trailing zeros, so that `…05.1Z` would come after `…05.123456Z`.
const sortable = (timestamp: Timestamp): string =>
  timestamp.slice(0, 19) + timestamp.slice(20, -1).padEnd(6, "0");

const compareText = (a: string, b: string): number => (a < b ? -1 : a > b ? 1 : 0);
