import type { CallFailure } from "./failure.ts";

/** Longest `Retry-After` a call waits for (providers.md §8.3). */
const MAX_RETRY_AFTER_MS = 5_000;

export interface RetryVerdict {
  readonly delayMs: number;
  readonly reason: "429" | "5xx" | "transport";
}

/**
 * Whether an HTTP status is worth the one retry of a model call (providers.md §8.3): 429 or 503 with
 * `Retry-After` of at most 5 s, in seconds or as a date.
 */
export function retryAfterStatus(
  status: number,
  retryAfter: string | undefined,
  nowMs: number,
): RetryVerdict | null {
  if (status !== 429 && status !== 503) return null;
  const delayMs = retryAfterMs(retryAfter, nowMs);
  if (delayMs === null || delayMs > MAX_RETRY_AFTER_MS) return null;
  return { delayMs, reason: status === 429 ? "429" : "5xx" };
}

/**
 * Whether a failed attempt is worth the one retry: only a connection that never came up. Not after a
 * timeout, and not once the request was written, since the provider may be generating for it.
 */
export function retryAfterFailure(failure: CallFailure, started: boolean): RetryVerdict | null {
  return failure.kind === "unavailable" && !started ? { delayMs: 0, reason: "transport" } : null;
}

const retryAfterMs = (header: string | undefined, nowMs: number): number | null => {
  if (header === undefined) return null;
  const text = header.trim();
  if (/^\d{1,9}$/.test(text)) return Number(text) * 1000;
  const date = Date.parse(text);
  return Number.isNaN(date) ? null : Math.max(0, date - nowMs);
};
