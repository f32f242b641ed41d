import type { Batch, Journal } from "./journal.ts";
import type { ChaosKind } from "./world.ts";

/** What the database says when everything is over. */
export interface Books {
  /** How many messages of each key were committed. */
  readonly committed: readonly { readonly kind: ChaosKind; readonly tenantId: string; readonly n: number }[];
  readonly dead: readonly { readonly kind: string; readonly tenantId: string; readonly number: number }[];
  /** What the transactional handler wrote, in the order it did. */
  readonly effects: readonly { readonly tenantId: string; readonly number: number }[];
  /** Messages that still wait. */
  readonly left: number;
}

export interface Evidence {
  readonly journals: readonly Journal[];
  readonly books: Books;
  readonly leaseMs: number;
  /** Null when the database was only restarted. */
  readonly crash: Crash | null;
}

/** The database was shot between these two moments and forgot what it had not flushed. */
export interface Crash {
  readonly from: number;
  readonly to: number;
}

/** One hand-over of one message. */
export interface Handed {
  readonly batch: Batch;
  readonly number: number;
  readonly messageId: string;
  /** Of this message; null where the process died before it told. */
  readonly letter: string | null;
}

/** Takes note of a violation. */
export type Tell = (text: string) => void;

// A crash of the server takes at most three times `wal_writer_delay` of unflushed acknowledgements along.
const unflushedMs = 1_000;

/** Whether the claim or the acknowledgement of a batch may have gone with the crash. */
export const forgettable = ({ at, end }: Batch, crash: Crash): boolean =>
  at < crash.to && (end?.at ?? at) > crash.from - unflushedMs;
