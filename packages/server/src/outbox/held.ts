import type { Message, QueueHandler, TransactionalHandler, Verdict } from "./message.ts";
import type { QueueSettings } from "./queue.ts";

/** A queue this process works on. */
export interface Served {
  readonly settings: QueueSettings;
  readonly handler: QueueHandler | TransactionalHandler;
  /** `{instance_id}:{queue}:{6 random}`, new per start (outbox.md §13). */
  readonly worker: string;
}

/** A leased partition: from the claim until its acknowledgement is answered. */
export interface Held {
  readonly partitionId: number;
  readonly token: string;
  readonly queue: Served;
  /** All that was claimed; the handler may get less. */
  readonly messages: readonly Message[];
  /** `performance.now()` before the claim was sent. */
  readonly claimedAt: number;
  /** The same of the claim since which this process has kept the lease from batch to batch. */
  readonly keptSince: number;
  /** The same of the claim or the renewal its lease counts from. */
  leasedAt: number;
  /** More was claimed than one batch holds: the partition has a backlog. */
  readonly full: boolean;
  /** Parallel to `messages`; undefined where a message was not attempted. */
  verdicts: readonly (Verdict | undefined)[];
}
