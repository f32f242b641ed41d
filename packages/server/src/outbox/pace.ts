/** How far apart the passes of a dispatcher start while nothing is drained. */
export interface Pace {
  /** Milliseconds to wait before the next pass, at most the spacing, after one that began at `startedAt`. */
  waitMs(startedAt: number, now: number): number;
}

/**
 * Passes start `spacingMs` apart, so that what arrives meanwhile shares a claim and an acknowledgement, but
 * `burst` of them may follow one at once: the retries of one queue must not delay what another one
 * brings. Passes that drain a backlog are not asked about and do not count.
 */
export const createPace = (spacingMs: number, burst: number): Pace => {
  let next = 0;
  return {
    waitMs: (startedAt, now) => {
      next = Math.max(next, startedAt - burst * spacingMs) + spacingMs;
      return Math.min(spacingMs, Math.max(0, next - now));
    },
  };
};
