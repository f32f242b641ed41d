/**
 * Keeps what was handed over of each key and counts what was wrong with it. A key is a small number, a
 * message its number within the key, from 0.
 */
export interface Ledger {
  /** Messages taken for the first time. */
  readonly taken: number;
  readonly duplicates: number;
  /** Messages that came after a later one of their key. */
  readonly orderViolations: number;
  take(key: number, number: number): void;
  /** Resolves when every message has been taken once. */
  readonly complete: Promise<void>;
  /** Throws unless every message came exactly once and in order. */
  verify(): void;
}

export const createLedger = (keys: number, perKey: number): Ledger => {
  const seen = new Uint8Array(keys * perKey);
  const highest = new Int32Array(keys).fill(-1);
  const all = Promise.withResolvers<void>();
  const counts = { taken: 0, duplicates: 0, orderViolations: 0 };
  return {
    get taken() {
      return counts.taken;
    },
    get duplicates() {
      return counts.duplicates;
    },
    get orderViolations() {
      return counts.orderViolations;
    },
    take: (key, number) => {
      if (!(number >= 0 && number < perKey && key >= 0 && key < keys)) {
        throw new RangeError(`no message ${number} of key ${key}`);
      }
      const at = key * perKey + number;
      if (seen[at] === 1) {
        counts.duplicates += 1;
        return;
      }
      seen[at] = 1;
      counts.taken += 1;
      const before = highest[key] ?? 0;
      if (number < before) counts.orderViolations += 1;
      else highest[key] = number;
      if (counts.taken === keys * perKey) all.resolve();
    },
    complete: all.promise,
    verify: () => {
      const { taken, duplicates, orderViolations } = counts;
      if (taken !== keys * perKey || duplicates > 0 || orderViolations > 0) {
        throw new Error(
          `${taken} of ${keys * perKey} messages, ${duplicates} twice, ${orderViolations} out of order`,
        );
      }
    },
  };
};
