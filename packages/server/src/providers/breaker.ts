import type { Clock } from "../lib/clock.ts";

/** `providers.<id>.breaker` (providers.md §8.3). */
export interface BreakerLimits {
  /** Failures in a row that open the breaker. */
  readonly failure_threshold: number;
  readonly open_secs: number;
  /** Calls let through at once while half open. */
  readonly half_open_probes: number;
  /** Successes that close it again. */
  readonly success_threshold: number;
}

/** Leave to make one attempt; exactly one of the ends is reported, further ones are ignored. */
export interface Permit {
  /** The upstream answered sensibly: enough for a probe, which must not wait for a long stream. */
  answered(): void;
  succeeded(): void;
  failed(): void;
  /** Neither: the caller gave up, so the upstream is none the wiser. */
  abandoned(): void;
}

/**
 * The circuit breaker of one upstream in this process (providers.md §8.3): `closed` counts failures
 * in a row, `open` refuses, `half_open` lets a few probes through and closes after enough successes.
 */
export interface Breaker {
  /** Null while the breaker refuses. */
  acquire(): Permit | null;
  readonly state: "closed" | "open" | "half_open";
}

/** Creates a closed breaker; `onOpen` is told each time it opens. */
export function createBreaker(limits: BreakerLimits, clock: Clock, onOpen: () => void = () => {}): Breaker {
  let state: Breaker["state"] = "closed";
  let failures = 0;
  let successes = 0;
  let probes = 0;
  let openUntil = 0;
  // Ends of attempts that began before the last change of state say nothing about the present one.
  let period = 0;

  const enter = (next: Breaker["state"]): void => {
    state = next;
    period += 1;
    failures = 0;
    successes = 0;
    probes = 0;
    if (next !== "open") return;
    openUntil = clock.now() + limits.open_secs * 1000;
    onOpen();
  };

  const onSuccess = (): void => {
    failures = 0;
    successes += 1;
    if (state === "half_open" && successes >= limits.success_threshold) enter("closed");
  };

  const onFailure = (): void => {
    failures += 1;
    if (state === "half_open" || failures >= limits.failure_threshold) enter("open");
  };

  const issue = (): Permit => {
    const issuedIn = period;
    const isProbe = state === "half_open";
    if (isProbe) probes += 1;
    let ended = false;
    const end = (act: () => void) => (): void => {
      if (ended) return;
      ended = true;
      if (issuedIn !== period) return;
      if (isProbe) probes -= 1;
      act();
    };
    const succeeded = end(onSuccess);
    return {
      answered: () => {
        if (isProbe) succeeded();
      },
      succeeded,
      failed: end(onFailure),
      abandoned: end(() => {}),
    };
  };

  return {
    acquire: () => {
      if (state === "open" && clock.now() >= openUntil) enter("half_open");
      if (state === "open") return null;
      if (state === "half_open" && probes >= limits.half_open_probes) return null;
      return issue();
    },
    get state() {
      return state;
    },
  };
}
