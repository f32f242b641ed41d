/** Numbers from 0 to below 1; the same sequence for the same seed. */
export type Random = () => number;

/** A small generator whose sequence is the whole point: histories can be asked for again by their seed. */
export const seeded = (seed: number): Random => {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 4_294_967_296;
  };
};

/** A whole number from `low` to `high`, both included. */
export const between = (random: Random, low: number, high: number): number =>
  low + Math.floor(random() * (high - low + 1));

/** The same number from 0 to below 1 for the same text, whichever process asks. */
export const hashed = (text: string): number => {
  let hash = 2_166_136_261;
  for (let at = 0; at < text.length; at += 1) hash = Math.imul(hash ^ text.charCodeAt(at), 16_777_619);
  return seeded(hash)();
};

export type Role = "worker" | "producer";

export type Act =
  /** `kill -9` of whichever process has the place then; another one takes it at once. */
  | { readonly kind: "kill"; readonly atMs: number; readonly role: Role; readonly place: number }
  /** SIGSTOP for longer than a lease: to the others it looks dead, then it goes on. */
  | { readonly kind: "pause"; readonly atMs: number; readonly place: number; readonly forMs: number }
  | { readonly kind: "restart_database"; readonly atMs: number };

export interface ChaosOptions {
  readonly seed: number;
  readonly seconds: number;
  readonly workers: number;
  readonly producers: number;
  readonly killEveryMs: number;
  readonly pauseEveryMs: number;
  readonly leaseMs: number;
  /** `fast` ends all sessions and writes everything, as an upgrade does; `crash` loses what was not flushed. */
  readonly restart: "fast" | "crash";
}

/** Who is killed, who is paused and when, in order: a function of the options alone. */
export const scheduleOf = (options: ChaosOptions): Act[] => {
  const random = seeded(options.seed);
  const lengthMs = options.seconds * 1_000;
  const acts: Act[] = [{ kind: "restart_database", atMs: Math.floor(lengthMs / 2) }];
  for (let start = 0; start < lengthMs; start += options.killEveryMs) {
    const atMs = start + between(random, 0, options.killEveryMs - 1);
    const victim = between(random, 0, options.workers + options.producers - 1);
    const role = victim < options.workers ? "worker" : "producer";
    const place = role === "worker" ? victim : victim - options.workers;
    acts.push({ kind: "kill", atMs, role, place });
  }
  for (let start = options.pauseEveryMs; start < lengthMs; start += options.pauseEveryMs) {
    const atMs = start + between(random, 0, Math.floor(options.pauseEveryMs / 2));
    const place = between(random, 0, options.workers - 1);
    acts.push({ kind: "pause", atMs, place, forMs: Math.floor(options.leaseMs * 1.5) });
  }
  return acts.toSorted((a, b) => a.atMs - b.atMs);
};
