import { backoffMs } from "../lib/backoff.ts";
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

/** What of a call is tried again, and how soon; asked before any response byte was passed on. */
export interface RetryRule {
  readonly maxRetries: number;
  afterStatus(answer: {
    readonly status: number;
    readonly retryAfter: string | undefined;
    readonly nowMs: number;
    /** Retries before this one. */
    readonly retries: number;
  }): RetryVerdict | null;
  afterFailure(end: {
    readonly failure: CallFailure;
    readonly started: boolean;
    readonly retries: number;
  }): RetryVerdict | null;
}

/** Model calls: at most one retry. */
export const modelCallRetry: RetryRule = {
  maxRetries: 1,
  afterStatus: ({ status, retryAfter, nowMs }) => retryAfterStatus(status, retryAfter, nowMs),
  afterFailure: ({ failure, started }) => retryAfterFailure(failure, started),
};

/** Calls that make something at the provider: their callers know whether to try again. */
export const noRetry: RetryRule = { maxRetries: 0, afterStatus: () => null, afterFailure: () => null };

const retryableStatuses = new Set([500, 502, 503, 504]);
const repeatDelay = { baseMs: 200, maxMs: 1_000 };

/**
 * Deletions and status reads, which may be repeated: at most two retries of 429 and 5xx answers and of
 * lost connections (providers.md §8.3). `Retry-After` is obeyed up to 5 s; a longer one, or a timeout, is
 * left to the caller, who must not be kept that long.
 */
export const repeatableRetry: RetryRule = {
  maxRetries: 2,
  afterStatus: ({ status, retryAfter, nowMs, retries }) => {
    if (status !== 429 && !retryableStatuses.has(status)) return null;
    const asked = retryAfterMs(retryAfter, nowMs);
    if (asked !== null && asked > MAX_RETRY_AFTER_MS) return null;
    return { delayMs: asked ?? backoffMs(retries, repeatDelay), reason: status === 429 ? "429" : "5xx" };
  },
  afterFailure: ({ failure, retries }) =>
    failure.kind === "unavailable" || failure.kind === "lost"
      ? { delayMs: backoffMs(retries, repeatDelay), reason: "transport" }
      : null,
};

const retryAfterMs = (header: string | undefined, nowMs: number): number | null => {
  if (header === undefined) return null;
  const text = header.trim();
  if (/^\d{1,9}$/.test(text)) return Number(text) * 1000;
  const date = Date.parse(text);
  return Number.isNaN(date) ? null : Math.max(0, date - nowMs);
};
