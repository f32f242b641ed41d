/** The six queues (outbox.md §3); `kind` in metrics and logs. */
export const queueKinds = [
  "usage",
  "attachment_cleanup",
  "chat_cleanup",
  "thread_summary",
  "audit",
  "doc_summary",
] as const;
export type QueueKind = (typeof queueKinds)[number];

/**
 * What a failing message holds up (outbox-engine.md, O5): `block` everything behind it in its
 * partition, `park_key` only the messages of its order key.
 */
export type OrderPolicy = "block" | "park_key";

export interface QueueSettings {
  readonly kind: QueueKind;
  /** The stored name; configurable. */
  readonly name: string;
  readonly policy: OrderPolicy;
  readonly leaseMs: number;
  /** Kept back at the end of a lease for the acknowledgement. */
  readonly headroomMs: number;
  /** Runs after which a message becomes a dead letter; infinite where only an operator may give up. */
  readonly maxAttempts: number;
}

/** The part of the configuration that names the queues (ops.md §2.4). */
export interface QueueNames {
  readonly queue_name: string;
  readonly cleanup_queue_name: string;
  readonly chat_cleanup_queue_name: string;
  readonly thread_summary_queue_name: string;
  readonly audit_queue_name: string;
  readonly doc_summary_queue_name: string;
}

export interface QueueOptions {
  /** `cleanup_worker.max_attempts`. */
  readonly cleanupAttempts?: number;
  /** `thread_summary_worker.max_attempts`. */
  readonly summaryAttempts?: number;
  /** `thread_summary_worker.claim_timeout_secs`. */
  readonly summaryLeaseSecs?: number;
  /** Tests shorten leases. */
  readonly override?: Partial<Record<QueueKind, Partial<Omit<QueueSettings, "kind" | "name">>>>;
}

const unlimited = Number.POSITIVE_INFINITY;

/** Lease, order and attempts of every queue (outbox.md §3, outbox-engine.md "Handlers"). */
export const queueSettings = (
  names: QueueNames,
  options: QueueOptions = {},
): Record<QueueKind, QueueSettings> => {
  const queue = (
    kind: QueueKind,
    name: string,
    policy: OrderPolicy,
    [leaseSecs, headroomSecs]: readonly [number, number],
    maxAttempts: number,
  ): QueueSettings => ({
    kind,
    name,
    policy,
    leaseMs: leaseSecs * 1000,
    headroomMs: headroomSecs * 1000,
    maxAttempts,
    ...options.override?.[kind],
  });
  const cleanup = options.cleanupAttempts ?? 5;
  const summary = options.summaryAttempts ?? 3;
  return {
    usage: queue("usage", names.queue_name, "park_key", [30, 2], unlimited),
    attachment_cleanup: queue("attachment_cleanup", names.cleanup_queue_name, "park_key", [30, 2], cleanup),
    chat_cleanup: queue("chat_cleanup", names.chat_cleanup_queue_name, "park_key", [30, 2], cleanup),
    thread_summary: queue(
      "thread_summary",
      names.thread_summary_queue_name,
      "park_key",
      [options.summaryLeaseSecs ?? 300, 5],
      summary,
    ),
    audit: queue("audit", names.audit_queue_name, "park_key", [60, 2], unlimited),
    doc_summary: queue("doc_summary", names.doc_summary_queue_name, "park_key", [120, 5], summary),
  };
};

/**
 * The partition of a key: `uint128(uuid) mod count`, which for a power of two is the low bits of the
 * last byte (outbox.md §3).
 */
export const partitionOf = (uuid: string, count: number): number =>
  Number.parseInt(uuid.slice(-2), 16) & (count - 1);

/** The stored name of a queue given by its kind or its name; any other text is taken as a name. */
export const storedQueueName = (
  queues: Readonly<Record<QueueKind, Pick<QueueSettings, "kind" | "name">>>,
  text: string,
): string => queueKinds.map((kind) => queues[kind]).find(({ kind }) => kind === text)?.name ?? text;
