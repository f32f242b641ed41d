import type { DeadGroup, DeadLetter } from "./dead-letter.ts";
import type { Change } from "./dead-letters.ts";
import type { PartitionState } from "./partition-store.ts";
import { conditionOf, type OutboxStatus, type PartitionCondition } from "./status.ts";
import type { WaitingHead } from "./waiting-store.ts";

/** What machines get of the outbox: the same over HTTP and from the command line. */

/** With `payload` only where it was asked for. */
export const deadLetterView = (letter: DeadLetter) => ({
  id: Number(letter.id),
  queue: letter.queue,
  kind: letter.kind,
  partition_id: letter.partitionId,
  message_id: letter.messageId,
  tenant_id: letter.tenantId,
  order_key: letter.orderKey,
  trace_id: letter.trace,
  status: letter.status,
  attempts: letter.attempts,
  replay_count: letter.replayCount,
  error: letter.error,
  fingerprint: letter.fingerprint,
  created_at: letter.createdAt,
  first_failed_at: letter.firstFailedAt,
  last_failed_at: letter.lastFailedAt,
  deadline: letter.deadline,
  completed_at: letter.completedAt,
  completed_by: letter.completedBy,
  rejected_by: letter.rejectedBy,
  reject_reason: letter.rejectReason,
  ...(letter.payload === null ? {} : { payload: letter.payload }),
});

const conditionView = (condition: PartitionCondition): string => condition.replaceAll(" ", "_");

export const waitingView = (head: WaitingHead) => ({
  message_id: head.messageId,
  queue: head.queue,
  kind: head.kind,
  partition_id: head.partitionId,
  tenant_id: head.tenantId,
  order_key: head.orderKey,
  trace_id: head.trace,
  condition: conditionView(head.condition),
  attempts: head.attempts,
  error: head.error,
  created_at: head.createdAt,
  first_failed_at: head.firstFailedAt,
  next_attempt_at: head.nextAttemptAt,
  behind: head.behind,
});

export const deadGroupView = (group: DeadGroup) => ({
  queue: group.queue,
  status: group.status,
  fingerprint: group.fingerprint,
  count: group.letters,
  oldest_at: group.oldestAt,
  newest_at: group.newestAt,
  error: group.error,
});

export const changeView = ({ changed, skipped }: Change) => ({
  changed: changed.length,
  ids: changed.map(Number),
  skipped: skipped.map(({ id, reason }) => ({ id: Number(id), reason })),
});

const seconds = (value: number | null): number | null => (value === null ? null : Math.round(value));

export const statusView = ({ queues, strays }: OutboxStatus) => ({
  backlog: queues.reduce((sum, { backlog }) => sum + backlog, 0),
  dead_letters_pending: queues.reduce((sum, { dead }) => sum + dead.pending, 0),
  stray_messages: strays,
  queues: queues.map((queue) => ({
    queue: queue.queue,
    kind: queue.kind,
    backlog: queue.backlog,
    oldest_age_seconds: seconds(queue.oldestAgeSecs),
    partitions: {
      total: queue.partitions,
      leased: queue.leased,
      paused: queue.paused,
      backing_off: queue.backingOff,
    },
    parked_keys: queue.parkedKeys,
    dead_letters: queue.dead,
  })),
});

export const partitionView = (partition: PartitionState) => ({
  partition_id: partition.id,
  queue: partition.queue,
  no: partition.no,
  condition: conditionView(conditionOf(partition)),
  backlog: partition.backlog,
  oldest_age_seconds: seconds(partition.oldestAgeSecs),
  attempts: partition.attempts,
  parked_keys: partition.parkedKeys,
  not_before: partition.notBefore,
  locked_by: partition.lockedBy,
  last_error: partition.lastError,
});
