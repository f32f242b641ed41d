import type { QueueKind } from "./queue.ts";

/** How many messages of a partition a claim of each queue asks for. */
export interface ClaimSizes {
  of(kind: QueueKind): number;
  /** A claimed batch was delivered to its end and there may be more behind it. */
  succeeded(kind: QueueKind): void;
  /** Nothing of a claimed batch was delivered. */
  failed(kind: QueueKind): void;
}

const smallest = 16;

/**
 * Claims start small, double while batches are delivered whole and halve when they come back: what waits
 * behind a receiver that is down is not read again and again in batches of which one message is tried.
 * Measured with a million messages waiting: docs/outbox.md.
 */
export const createClaimSizes = (batchSize: number): ClaimSizes => {
  const least = Math.min(smallest, batchSize);
  const sizes = new Map<QueueKind, number>();
  const of = (kind: QueueKind): number => sizes.get(kind) ?? least;
  return {
    of,
    succeeded: (kind) => {
      sizes.set(kind, Math.min(batchSize, of(kind) * 2));
    },
    failed: (kind) => {
      sizes.set(kind, Math.max(least, Math.floor(of(kind) / 2)));
    },
  };
};
