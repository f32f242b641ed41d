import type { Timestamp } from "../db/pool.ts";

/** The life of a dead letter (outbox.md §11). Stored as they are, but `reprocessing` as `replaying`. */
export const deadStatuses = ["pending", "reprocessing", "resolved", "discarded"] as const;
export type DeadStatus = (typeof deadStatuses)[number];

/** A message that was given up, as its self-contained copy tells. */
export interface DeadLetter {
  readonly id: bigint;
  readonly queue: string;
  /** Where the message was; another one after a repartition. */
  readonly partitionId: number;
  readonly messageId: string;
  readonly tenantId: string;
  readonly orderKey: string;
  readonly kind: string;
  readonly trace: string | null;
  /** When the message was enqueued. */
  readonly createdAt: Timestamp;
  readonly attempts: number;
  readonly firstFailedAt: Timestamp;
  readonly lastFailedAt: Timestamp;
  readonly error: string;
  /** The same for all dead letters of one queue and cause. */
  readonly fingerprint: string;
  readonly status: DeadStatus;
  /** Until when a claim holds it; only while `reprocessing`. */
  readonly deadline: Timestamp | null;
  readonly replayCount: number;
  readonly completedAt: Timestamp | null;
  /** The operator who requeued, resolved or discarded it. */
  readonly completedBy: string | null;
  /** The operator who gave it up while it waited, and why; null when its handler or its attempts did. */
  readonly rejectedBy: string | null;
  readonly rejectReason: string | null;
  /** JSON text as it was enqueued; null unless it was asked for: it may hold what users wrote. */
  readonly payload: string | null;
}

/** What to look at; every part that is given must fit. */
export interface DeadFilter {
  readonly queue?: string | undefined;
  readonly partitionId?: number | undefined;
  readonly kind?: string | undefined;
  readonly tenantId?: string | undefined;
  readonly fingerprint?: string | undefined;
  /** Default `pending`. */
  readonly status?: DeadStatus | "all" | undefined;
}

/** An edge of a list, newest first. */
export interface DeadPosition {
  readonly lastFailedAt: Timestamp;
  readonly id: bigint;
}

/** Dead letters of one queue, state and cause. */
export interface DeadGroup {
  readonly queue: string;
  readonly status: DeadStatus;
  readonly fingerprint: string;
  readonly letters: number;
  readonly oldestAt: Timestamp;
  readonly newestAt: Timestamp;
  /** Of the newest. */
  readonly error: string;
}

/** Default and largest length of a list (outbox.md §11). */
export const defaultDeadLimit = 100;
export const maxDeadLimit = 1_000;

const storedStatus: Readonly<Record<DeadStatus, string>> = {
  pending: "pending",
  reprocessing: "replaying",
  resolved: "resolved",
  discarded: "discarded",
};

export const toStoredStatus = (status: DeadStatus): string => storedStatus[status];

export const fromStoredStatus = (stored: string): DeadStatus =>
  deadStatuses.find((status) => storedStatus[status] === stored) ?? "pending";

/** Whether the text may name an operator in a log line and in the database. */
export const isActorName = (text: string): boolean => /^[\p{L}\p{N}\p{P}\p{S} ]{1,128}$/u.test(text);
