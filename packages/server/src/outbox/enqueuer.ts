import { randomUUID } from "node:crypto";
import type { Tx } from "../db/tx.ts";
import { type Logger, noLogger } from "../telemetry/log.ts";
import { type Metrics, noMetrics } from "../telemetry/metrics.ts";
import type {
  AttachmentCleanupEvent,
  AuditEnvelope,
  ChatCleanupEvent,
  DocSummaryTaskPayload,
  OutboxEvent,
  ThreadSummaryTaskPayload,
  UsageEvent,
} from "./events.ts";
import { partitionOf, type QueueKind, type QueueSettings } from "./queue.ts";
import { insertMessages, type NewMessage, type PartitionMap } from "./store.ts";
import { isConsistentUsage, isDedupeKeyOf } from "./usage-rules.ts";

/**
 * What the domain sees of the outbox (outbox.md §2). Every operation issues its one statement before
 * it returns, so it can share a round trip with other statements of the transaction, and resolves
 * when the row is written. A rejection must abort the transaction. Call `flush()` after the commit.
 */
export interface OutboxEnqueuer {
  enqueueUsageEvent(tx: Tx, event: UsageEvent): Promise<void>;
  enqueueAuditEvent(tx: Tx, event: AuditEnvelope): Promise<void>;
  enqueueAttachmentCleanup(tx: Tx, event: AttachmentCleanupEvent): Promise<void>;
  enqueueChatCleanup(tx: Tx, event: ChatCleanupEvent): Promise<void>;
  enqueueThreadSummary(tx: Tx, payload: ThreadSummaryTaskPayload): Promise<void>;
  enqueueDocSummary(tx: Tx, payload: DocSummaryTaskPayload): Promise<void>;
  /** Several events in one statement, in this order; one bad event writes none. */
  enqueueMany(tx: Tx, events: readonly OutboxEvent[]): Promise<void>;
  /** Wakes the workers of this and other processes. Synchronous, never throws. */
  flush(): void;
}

export type OutboxErrorReason =
  | "outbox_not_started"
  | "partition_count_mismatch"
  | "unserved_queue"
  | "payload_too_large"
  | "invalid_payload";

/** A bug or a broken set-up; clients see an opaque 500. */
export class OutboxError extends Error {
  override name = "OutboxError";
  readonly reason: OutboxErrorReason;

  constructor(reason: OutboxErrorReason, message: string, cause?: unknown) {
    super(message, cause === undefined ? undefined : { cause });
    this.reason = reason;
  }
}

/** Largest payload, in bytes of UTF-8 (outbox.md §2). */
export const maxPayloadBytes = 65_536;
const maxInsert = 100;

export interface EnqueuerDeps {
  readonly queues: Readonly<Record<QueueKind, QueueSettings>>;
  /** Null until registration is done. */
  readonly partitions: () => PartitionMap | null;
  readonly flush: () => void;
  readonly logger?: Logger;
  readonly metrics?: Metrics;
}

export const createEnqueuer = (deps: EnqueuerDeps): OutboxEnqueuer => {
  const enqueueMany = (tx: Tx, events: readonly OutboxEvent[]): Promise<void> => {
    const written = write(deps, tx, events);
    // The caller may learn of the failure from a sibling statement and never look at this promise.
    written.catch(() => {});
    return written;
  };
  return {
    enqueueMany,
    enqueueUsageEvent: (tx, event) => enqueueMany(tx, [{ kind: "usage", event }]),
    enqueueAuditEvent: (tx, event) => enqueueMany(tx, [{ kind: "audit", event }]),
    enqueueAttachmentCleanup: (tx, event) => enqueueMany(tx, [{ kind: "attachment_cleanup", event }]),
    enqueueChatCleanup: (tx, event) => enqueueMany(tx, [{ kind: "chat_cleanup", event }]),
    enqueueThreadSummary: (tx, event) => enqueueMany(tx, [{ kind: "thread_summary", event }]),
    enqueueDocSummary: (tx, event) => enqueueMany(tx, [{ kind: "doc_summary", event }]),
    flush: deps.flush,
  };
};

// Runs up to the statement without a pause: an async function starts synchronously.
const write = async (deps: EnqueuerDeps, tx: Tx, events: readonly OutboxEvent[]): Promise<void> => {
  const { queues, metrics = noMetrics, logger = noLogger } = deps;
  try {
    const messages = events.map((item) => toMessage(deps, item));
    const inserts: Promise<unknown>[] = [];
    for (let at = 0; at < messages.length; at += maxInsert) {
      inserts.push(insertMessages(tx, messages.slice(at, at + maxInsert)));
    }
    // Before the pause: a commit in the same round trip may be answered first.
    tx.afterCommit(() => {
      for (const [at, { kind, event }] of events.entries()) {
        metrics.count("outbox_enqueue", { kind, result: "ok" });
        const { partitionId, messageId } = messages[at] ?? {};
        const place = { kind, queue: queues[kind].name, partition_id: partitionId, message_id: messageId };
        logger.info({ ...place, ...loggedIds(event), processing_stage: "outbox" }, "outbox event enqueued");
      }
    });
    await Promise.all(inserts);
  } catch (error) {
    // An event refused before any statement leaves the server unaware that the transaction must not commit.
    tx.doom(error);
    for (const { kind } of events) metrics.count("outbox_enqueue", { kind, result: "error" });
    throw error;
  }
};

const idKeys = [
  "tenant_id",
  "user_id",
  "chat_id",
  "turn_id",
  "request_id",
  "attachment_id",
  "system_request_id",
];

/** The ids that connect a turn with the delivery of its events in the log (ops.md §6). */
const loggedIds = (event: object): object =>
  Object.fromEntries(Object.entries(event).filter(([key]) => idKeys.includes(key)));

const toMessage = (deps: EnqueuerDeps, { kind, event }: OutboxEvent): NewMessage => {
  const partitions = deps.partitions();
  if (partitions === null) throw new OutboxError("outbox_not_started", "the queues are not registered yet");
  if (kind === "usage") checkUsage(deps, event);
  const payload = serialize(event);
  const orderKey =
    kind === "usage" || kind === "audit" || kind === "attachment_cleanup" ? event.tenant_id : event.chat_id;
  const ids = partitions[kind];
  const partitionId = ids[partitionOf(orderKey, ids.length)];
  if (partitionId === undefined) {
    throw new OutboxError("invalid_payload", `no partition for the order key of a ${kind} event`);
  }
  const trace = kind === "audit" ? (event.trace_id ?? null) : null;
  const messageId = randomUUID();
  return { partitionId, messageId, tenantId: event.tenant_id, orderKey, kind, payload, trace };
};

const serialize = (event: object): string => {
  checkNumbers(event);
  const payload = JSON.stringify(event);
  // A UTF-16 unit is at most three bytes, so most payloads need no exact count.
  if (payload.length * 3 > maxPayloadBytes && Buffer.byteLength(payload) > maxPayloadBytes) {
    throw new OutboxError("payload_too_large", `payload exceeds ${maxPayloadBytes} bytes`);
  }
  return payload;
};

/** Integers beyond 2^53 − 1 would arrive as other integers (outbox.md §4). */
const checkNumbers = (value: object): void => {
  for (const item of Object.values(value) as unknown[]) {
    if (typeof item === "number" ? !Number.isSafeInteger(item) : typeof item === "bigint") {
      throw new OutboxError("invalid_payload", "a number of the payload is not a safe integer");
    }
    if (typeof item === "object" && item !== null) checkNumbers(item);
  }
};

const checkUsage = ({ logger = noLogger, metrics = noMetrics }: EnqueuerDeps, event: UsageEvent): void => {
  const ids = { tenant_id: event.tenant_id, turn_id: event.turn_id, request_id: event.request_id };
  if (event.dedupe_key !== undefined && !isDedupeKeyOf(event.dedupe_key, event.tenant_id)) {
    logger.critical(ids, "dedupe key of a usage event does not belong to its tenant");
    throw new OutboxError("invalid_payload", "dedupe key does not belong to the tenant");
  }
  if (!isConsistentUsage(event)) {
    metrics.count("usage_event_inconsistent");
    logger.critical(
      { ...ids, billing_outcome: event.billing_outcome, settlement_method: event.settlement_method },
      "usage event with an impossible outcome; written all the same",
    );
  }
};
