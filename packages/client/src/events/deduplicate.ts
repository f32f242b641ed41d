/** Where the keys of events that were taken are kept. `Context` is what taking one is given. */
export interface SeenKeys<Context = void> {
  /**
   * Runs `take` and keeps the key, or returns false when it is known. A key whose `take` failed must not be
   * known, and what it threw is passed on. Calls for one key come one after the other from this process;
   * from several processes the store has to see to that itself.
   */
  once(key: string, take: (context: Context) => Promise<void>): Promise<boolean>;
}

export interface Deduplicator<Context = void> {
  /**
   * Runs `take` unless the key is known; true when it ran. A call that comes while another for its key runs
   * waits for that one: a repeat is never told that its event was taken before it was. When `take` throws,
   * the error is passed on: answer the request with an error, and the event comes again.
   */
  once(key: string, take: (context: Context) => Promise<void>): Promise<boolean>;
}

/**
 * Drops what was delivered before. Events come at least once: again after a crash on either side, a lost
 * answer or a time-out. The key is `eventKey(event)`.
 *
 * With `memoryKeys` an event is taken twice when the receiver restarts, or dies between taking it and
 * answering. Where that matters, use a store that keeps the key in the transaction of the effect:
 * `examples/usage-ledger.ts` has one for PostgreSQL.
 */
export const createDeduplicator = <Context = void>(keys: SeenKeys<Context>): Deduplicator<Context> => {
  const running = new Map<string, Promise<unknown>>();
  return {
    once: async (key, take) => {
      for (let other = running.get(key); other !== undefined; other = running.get(key)) {
        await other.catch(() => {});
      }
      const own = keys.once(key, take);
      running.set(key, own);
      try {
        return await own;
      } finally {
        running.delete(key);
      }
    },
  };
};

export interface MemoryKeysOptions {
  /** Keys kept; beyond them the one not seen for longest is forgotten. Default 100,000, about 15 MB. */
  readonly capacity?: number;
}

/** Keys in the memory of this process: gone when it ends, and bounded. */
export const memoryKeys = ({ capacity = 100_000 }: MemoryKeysOptions = {}): SeenKeys => {
  // In the order they were last seen.
  const seen = new Set<string>();
  return {
    once: async (key, take) => {
      const known = seen.delete(key);
      if (!known) await take();
      seen.add(key);
      const [oldest] = seen;
      if (seen.size > capacity && oldest !== undefined) seen.delete(oldest);
      return !known;
    },
  };
};
