import { type Clock, systemClock } from "../lib/clock.ts";

/** A bounded map whose entries end at a given time; when full, the oldest entry makes room. */
export class ExpiringCache<V> {
  readonly #entries = new Map<string, { readonly value: V; readonly untilMs: number }>();
  readonly #limit: number;
  readonly #clock: Clock;

  constructor(limit: number, clock: Clock = systemClock) {
    this.#limit = limit;
    this.#clock = clock;
  }

  get(key: string): V | undefined {
    const entry = this.#entries.get(key);
    if (entry === undefined) return undefined;
    if (this.#clock.now() < entry.untilMs) return entry.value;
    this.#entries.delete(key);
    return undefined;
  }

  /** Keeps the value until `untilMs`, milliseconds since the epoch. */
  set(key: string, value: V, untilMs: number): void {
    this.#entries.delete(key);
    if (this.#entries.size >= this.#limit) {
      const oldest = this.#entries.keys().next();
      if (oldest.done !== true) this.#entries.delete(oldest.value);
    }
    this.#entries.set(key, { value, untilMs });
  }
}
