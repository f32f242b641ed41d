import type { Tx } from "../db/tx.ts";
import type { QueueKind } from "./queue.ts";

/** A message as a handler gets it. */
export interface Message {
  readonly partitionId: number;
  /** Position in the partition; ascending in the order of delivery. */
  readonly id: bigint;
  /** The same on every delivery: the idempotency key (outbox-engine.md). */
  readonly messageId: string;
  readonly tenantId: string;
  readonly orderKey: string;
  readonly kind: string;
  /** JSON text as it was enqueued. */
  readonly payload: string;
  readonly trace: string | null;
  /** Milliseconds since it was enqueued, by the database clock, when it was claimed. */
  readonly ageMs: number;
  /** Runs so far, this one included. */
  readonly attempts: number;
  /** Its order key had waited after a failure. */
  readonly parked: boolean;
}

/** What became of one message (outbox-engine.md, Handlers). */
export type Verdict =
  | { readonly kind: "done" }
  /** Nothing left to do: a stale redelivery. Acknowledged like `done`, counted apart. */
  | { readonly kind: "already_terminal" }
  | {
      readonly kind: "retry";
      readonly error: string;
      /** Instead of the back-off; bounded to a day. */
      readonly afterMs?: number;
      /** False: not a failure of the message, so this run does not count as an attempt. */
      readonly counted?: boolean;
    }
  /** Given up: becomes a dead letter. */
  | { readonly kind: "reject"; readonly reason: string };

export const done: Verdict = { kind: "done" };

export interface HandlerContext {
  /** Fires at lease − headroom and at the end of a shutdown; work still running is cut off. */
  readonly signal: AbortSignal;
  /** Fires when a shutdown begins: what runs may finish, no further message is started (outbox.md §14). */
  readonly stopping: AbortSignal;
  /** `performance.now()` at which the signal fires; later after a `renew`. */
  readonly deadline: number;
  /**
   * The heartbeat of long work: leases the partition anew for the whole time of its queue. False when
   * the lease was lost, and then `signal` fires: what is being done no longer counts. Rejects when the
   * database does not answer; the lease stands as it was. It is for the handler to call whenever it has
   * got somewhere, so that one that hangs does not keep its partition.
   */
  renew(): Promise<boolean>;
}

/**
 * Delivers messages of one partition, outside any transaction, at least once. Verdicts are parallel
 * to the messages; undefined means not attempted: the message comes again and no attempt is counted.
 * Behind a `retry` of a key, verdicts of later messages of that key are ignored. A throw counts as a
 * `retry` of the first message, one after `signal` has fired as being cut off.
 */
export type QueueHandler = (
  messages: readonly Message[],
  context: HandlerContext,
) => Promise<readonly (Verdict | undefined)[]>;

/**
 * Delivers one message by statements of `tx` alone, which commits them together with the
 * acknowledgement: its effects happen exactly once (outbox-engine.md, Handlers). What it wrote is undone
 * when it throws, answers anything but `done` or `already_terminal`, or when the lease was lost. No
 * network call belongs inside.
 */
export interface TransactionalHandler {
  readonly inTransaction: (message: Message, tx: Tx) => Promise<Verdict>;
}

/**
 * What serves each queue. `keep_waiting`: messages stay where they are, in order and undamaged, until
 * a process with a handler comes.
 */
export type Handlers = Readonly<Record<QueueKind, QueueHandler | TransactionalHandler | "keep_waiting">>;
