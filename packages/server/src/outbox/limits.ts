/** How many messages a handler gets at a time after a failure. */
export interface Limits {
  /** The limit of a scope; infinite when nothing failed there lately. */
  of(scope: string): number;
  failed(scope: string): void;
  succeeded(scope: string): void;
}

const maxScopes = 10_000;

/**
 * After a failure one message, then twice as many after each success until a whole batch fits
 * (outbox-engine.md, Handlers). Scopes are partitions and order keys; the oldest are forgotten when
 * there are too many, which costs a larger batch, never a message.
 */
export const createLimits = (batchSize: number): Limits => {
  const limits = new Map<string, number>();
  return {
    of: (scope) => limits.get(scope) ?? Number.POSITIVE_INFINITY,
    failed: (scope) => {
      limits.delete(scope);
      limits.set(scope, 1);
      const [oldest] = limits.keys();
      if (limits.size > maxScopes && oldest !== undefined) limits.delete(oldest);
    },
    succeeded: (scope) => {
      const limit = limits.get(scope);
      if (limit === undefined) return;
      if (limit * 2 >= batchSize) limits.delete(scope);
      else limits.set(scope, limit * 2);
    },
  };
};
