/** Where the keys of events that were taken are kept. */
export interface SeenKeys {
  /** True when the key is new; it is known from now on. Atomic: of two callers one gets true. */
  add(key: string): Promise<boolean>;
  /** Forgets a key whose event could not be taken after all. */
  remove(key: string): Promise<void>;
}

export interface Deduplicator {
  /**
   * Runs `take` unless the key is known; true when it ran. When it throws, the key is forgotten and the
   * error passed on: answer the request with an error, and the event comes again.
   */
  once(key: string, take: () => Promise<void>): Promise<boolean>;
}

/**
 * Drops what was delivered before. Events come at least once: again after a crash on either side, a lost
 * answer or a time-out. The key is the header `idempotency-key`.
 *
 * With `memoryKeys` an event is taken twice when the receiver restarts, or dies between taking and
 * answering. Where that matters, insert the key in the transaction of the effect instead, with `on
 * conflict do nothing`, and do nothing when no row was inserted: then each event has its effect exactly
 * once. `examples/usage-consumer.ts` shows both.
 */
export const createDeduplicator = (keys: SeenKeys): Deduplicator => ({
  once: async (key, take) => {
    if (!(await keys.add(key))) return false;
    try {
      await take();
    } catch (error) {
      await keys.remove(key);
      throw error;
    }
    return true;
  },
});

export interface MemoryKeysOptions {
  /** Keys kept; beyond them the oldest is forgotten. Default 100,000, about 15 MB. */
  readonly capacity?: number;
}

/** Keys in the memory of this process: gone when it ends, and bounded. */
export const memoryKeys = ({ capacity = 100_000 }: MemoryKeysOptions = {}): SeenKeys => {
  const keys = new Set<string>();
  return {
    add: async (key) => {
      if (keys.has(key)) return false;
      keys.add(key);
      const [oldest] = keys;
      if (keys.size > capacity && oldest !== undefined) keys.delete(oldest);
      return true;
    },
    remove: async (key) => {
      keys.delete(key);
    },
  };
};
