/** How old an answer may be (policy.md §9 rule 2), in ms. */
export interface Freshness {
  /** Older ones are refreshed in the background. */
  readonly ttlMs: number;
  /** Older ones are not used. */
  readonly maxStaleMs: number;
}

export type Age = "fresh" | "stale" | "too_stale";

/** The age of an answer given at `atMs`. */
export const ageOf = (atMs: number, nowMs: number, { ttlMs, maxStaleMs }: Freshness): Age => {
  const ageMs = nowMs - atMs;
  if (ageMs <= ttlMs) return "fresh";
  return ageMs <= maxStaleMs ? "stale" : "too_stale";
};

/** Between two attempts in the background while the source fails: as long as a refused client waits. */
export const retryPauseMs = 5_000;
