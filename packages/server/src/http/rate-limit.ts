import { AppError } from "../errors.ts";

/** State of a token bucket after a request (the `RateLimit-*` headers of api.md §1.3). */
export interface BucketState {
  /** Bucket size. */
  readonly limit: number;
  /** Whole requests left. */
  readonly remaining: number;
  /** Whole seconds until the bucket is full. */
  readonly resetSecs: number;
  /** Whole seconds until one request fits; 0 when one fits now. */
  readonly waitSecs: number;
}

export interface BucketOptions {
  /** Refill per second. */
  readonly rps: number;
  readonly burst: number;
  /** Milliseconds of a clock that never goes back. */
  readonly now: () => number;
}

interface Bucket {
  tokens: number;
  at: number;
}

/** Token buckets by key, each full at first. */
export interface Buckets {
  peek(key: string): BucketState;
  /** Takes one token; call only when `peek` says that one fits. */
  take(key: string): BucketState;
}

// A full bucket and a missing one are the same, so full ones go first when there are too many keys.
const maxBuckets = 20_000;

export function createBuckets({ rps, burst, now }: BucketOptions): Buckets {
  const buckets = new Map<string, Bucket>();
  const refilled = (key: string): Bucket => {
    const bucket = buckets.get(key) ?? { tokens: burst, at: now() };
    const at = now();
    return { tokens: Math.min(burst, bucket.tokens + ((at - bucket.at) / 1000) * rps), at };
  };
  const stateOf = ({ tokens }: Bucket): BucketState => ({
    limit: burst,
    remaining: Math.max(0, Math.floor(tokens)),
    resetSecs: Math.ceil((burst - tokens) / rps),
    waitSecs: tokens >= 1 ? 0 : Math.ceil((1 - tokens) / rps),
  });
  const makeRoom = (): void => {
    for (const key of buckets.keys()) if (refilled(key).tokens >= burst) buckets.delete(key);
    for (const key of buckets.keys()) {
      if (buckets.size < maxBuckets) return;
      buckets.delete(key);
    }
  };
  return {
    peek: (key) => stateOf(refilled(key)),
    take: (key) => {
      const bucket = refilled(key);
      bucket.tokens -= 1;
      if (!buckets.has(key) && buckets.size >= maxBuckets) makeRoom();
      buckets.set(key, bucket);
      return stateOf(bucket);
    },
  };
}

/** The settings of ops.md §2.2, `server.rate_limit`. */
export interface RateLimits {
  readonly rps: number;
  readonly burst: number;
  readonly in_flight: number;
  /** 0 = no limit per user. */
  readonly per_user_rps: number;
  readonly per_user_burst: number;
}

export interface RateLimiter {
  /**
   * Counts a request of this route as in flight and returns what gives the slot back (once).
   * Throws 503 `service_unavailable` when all slots are taken.
   */
  enter(route: string): () => void;
  /** Takes one token of the route and of the user. Throws 429 `too_many_requests` and takes none. */
  admit(route: string, user: string): BucketState;
  /** The route's bucket as it is, for answers before the user is known. */
  look(route: string): BucketState;
}

const tighter = (one: BucketState, other: BucketState): BucketState =>
  other.remaining < one.remaining ? other : one;

const tooMany = (state: BucketState): AppError =>
  new AppError("too_many_requests", {
    detail: "Too many requests in a short time.",
    headers: { ...rateLimitHeaders(state), "retry-after": String(Math.max(1, state.waitSecs)) },
  });

/** Limits per route and process, and per user (ops.md §2.2). */
export function createRateLimiter(
  limits: RateLimits,
  now: () => number = () => performance.now(),
): RateLimiter {
  const routes = createBuckets({ rps: limits.rps, burst: limits.burst, now });
  const limitsUsers = limits.per_user_rps > 0 && limits.per_user_burst > 0;
  const users = limitsUsers
    ? createBuckets({ rps: limits.per_user_rps, burst: limits.per_user_burst, now })
    : null;
  const inFlight = new Map<string, number>();
  return {
    enter: (route) => {
      const count = inFlight.get(route) ?? 0;
      if (count >= limits.in_flight) {
        throw new AppError("service_unavailable", { detail: "Too many requests are being served." });
      }
      inFlight.set(route, count + 1);
      let inside = true;
      return () => {
        if (inside) inFlight.set(route, (inFlight.get(route) ?? 1) - 1);
        inside = false;
      };
    },
    admit: (route, user) => {
      const states = [routes.peek(route), ...(users === null ? [] : [users.peek(user)])];
      const refused = states.filter(({ waitSecs }) => waitSecs > 0);
      const worst = refused.sort((one, other) => other.waitSecs - one.waitSecs)[0];
      if (worst !== undefined) throw tooMany(worst);
      const ofRoute = routes.take(route);
      return users === null ? ofRoute : tighter(ofRoute, users.take(user));
    },
    look: (route) => routes.peek(route),
  };
}

/** The three headers that tell a client where it stands. */
export const rateLimitHeaders = (state: BucketState): Record<string, string> => ({
  "ratelimit-limit": String(state.limit),
  "ratelimit-remaining": String(state.remaining),
  "ratelimit-reset": String(state.resetSecs),
});
