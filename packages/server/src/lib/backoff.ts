/**
 * Delay before retry number `attempt` (0 = the first retry): doubles from `baseMs` up to `maxMs`,
 * then loses up to half of itself at random so that many waiters do not return together.
 */
export const backoffMs = (
  attempt: number,
  limits: { readonly baseMs: number; readonly maxMs: number },
  random: () => number = Math.random,
): number => {
  const full = Math.min(limits.maxMs, limits.baseMs * 2 ** Math.min(attempt, 30));
  return full * (0.5 + random() / 2);
};
