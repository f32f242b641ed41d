import type { DeadGroup, DeadLetter } from "../outbox/dead-letter.ts";
import type { Change } from "../outbox/dead-letters.ts";
import type { PartitionState } from "../outbox/partition-store.ts";
import { conditionOf, type OutboxStatus, type QueueStatus } from "../outbox/status.ts";
import type { WaitingHead } from "../outbox/waiting-store.ts";
import { type Column, duration, plainText, table } from "./table.ts";

/** What people read of `mini-chat outbox …`. */

/** Seconds are enough for people. */
const time = (timestamp: string | null): string | null =>
  timestamp === null ? null : `${timestamp.slice(0, 19)}Z`;

const queueColumns: readonly Column<QueueStatus>[] = [
  { head: "QUEUE", cell: ({ queue, kind }) => (kind === null ? `${queue} (not configured)` : queue) },
  { head: "BACKLOG", cell: ({ backlog }) => backlog, right: true },
  { head: "OLDEST", cell: ({ oldestAgeSecs }) => duration(oldestAgeSecs), right: true },
  { head: "PARTITIONS", cell: ({ partitions }) => partitions, right: true },
  { head: "LEASED", cell: ({ leased }) => leased, right: true },
  { head: "PAUSED", cell: ({ paused }) => paused, right: true },
  { head: "BACKING OFF", cell: ({ backingOff }) => backingOff, right: true },
  { head: "PARKED KEYS", cell: ({ parkedKeys }) => parkedKeys, right: true },
  { head: "DEAD", cell: ({ dead }) => dead.pending, right: true },
];

const partitionColumns: readonly Column<PartitionState>[] = [
  { head: "PARTITION", cell: ({ id }) => id, right: true },
  { head: "QUEUE", cell: ({ queue }) => queue },
  { head: "NO", cell: ({ no }) => no, right: true },
  { head: "STATE", cell: conditionOf },
  { head: "BACKLOG", cell: ({ backlog }) => backlog, right: true },
  { head: "OLDEST", cell: ({ oldestAgeSecs }) => duration(oldestAgeSecs), right: true },
  { head: "ATTEMPTS", cell: ({ attempts }) => attempts, right: true },
  { head: "PARKED KEYS", cell: ({ parkedKeys }) => parkedKeys, right: true },
  { head: "LAST ERROR", cell: ({ lastError }) => lastError },
];

/** With the partitions that do not get on, or, when all are wanted, those that have any work. */
export const printStatus = (status: OutboxStatus, wanted: "stuck" | "busy"): string => {
  const parts = [table(queueColumns, status.queues)];
  const ordinary = wanted === "busy" ? ["idle"] : ["idle", "due", "leased"];
  const partitions = status.partitions.filter((one) => !ordinary.includes(conditionOf(one)));
  if (partitions.length > 0) parts.push(table(partitionColumns, partitions));
  if (status.strays > 0) {
    parts.push(
      `${status.strays} messages are in no partition: repartition with the same count moves them back`,
    );
  }
  return parts.join("\n\n");
};

const waitingColumns: readonly Column<WaitingHead>[] = [
  { head: "MESSAGE", cell: ({ messageId }) => messageId },
  { head: "QUEUE", cell: ({ queue }) => queue },
  { head: "PARTITION", cell: ({ partitionId }) => partitionId, right: true },
  { head: "TENANT", cell: ({ tenantId }) => tenantId },
  { head: "STATE", cell: ({ condition }) => condition },
  { head: "ATTEMPTS", cell: ({ attempts }) => attempts, right: true },
  { head: "FIRST FAILED", cell: ({ firstFailedAt }) => time(firstFailedAt) },
  { head: "NEXT ATTEMPT", cell: ({ nextAttemptAt }) => time(nextAttemptAt) },
  { head: "BEHIND IT", cell: ({ behind }) => behind, right: true },
  { head: "LAST ERROR", cell: ({ error }) => error },
];

export const printWaiting = (heads: readonly WaitingHead[], all: boolean): string => {
  if (heads.length > 0) return table(waitingColumns, heads);
  return all ? "nothing waits" : "nothing that failed waits; --all shows what has not failed";
};

const letterColumns: readonly Column<DeadLetter>[] = [
  { head: "ID", cell: ({ id }) => String(id), right: true },
  { head: "STATUS", cell: ({ status }) => status },
  { head: "QUEUE", cell: ({ queue }) => queue },
  { head: "TENANT", cell: ({ tenantId }) => tenantId },
  { head: "FAILED AT", cell: ({ lastFailedAt }) => time(lastFailedAt) },
  { head: "ATTEMPTS", cell: ({ attempts }) => attempts, right: true },
  { head: "FINGERPRINT", cell: ({ fingerprint }) => fingerprint },
  { head: "ERROR", cell: ({ error }) => error },
];

export const printLetters = (letters: readonly DeadLetter[]): string => {
  if (letters.length === 0) return "no dead letters";
  const payloads = letters.flatMap(({ id, payload }) =>
    payload === null ? [] : [`payload of ${id}:\n${readablePayload(payload)}`],
  );
  return [table(letterColumns, letters), ...payloads].join("\n\n");
};

const groupColumns: readonly Column<DeadGroup>[] = [
  { head: "COUNT", cell: ({ letters }) => letters, right: true },
  { head: "STATUS", cell: ({ status }) => status },
  { head: "QUEUE", cell: ({ queue }) => queue },
  { head: "OLDEST", cell: ({ oldestAt }) => time(oldestAt) },
  { head: "NEWEST", cell: ({ newestAt }) => time(newestAt) },
  { head: "FINGERPRINT", cell: ({ fingerprint }) => fingerprint },
  { head: "ERROR OF THE NEWEST", cell: ({ error }) => error },
];

export const printGroups = (count: number, groups: readonly DeadGroup[]): string =>
  count === 0 ? "no dead letters" : `${table(groupColumns, groups)}\n\n${count} in all`;

export const printLetter = (letter: DeadLetter): string => {
  const fields: readonly (readonly [string, string | number | null])[] = [
    ["id", String(letter.id)],
    ["status", letter.status],
    ["queue", letter.queue],
    ["kind", letter.kind],
    ["partition", letter.partitionId],
    ["message id", letter.messageId],
    ["tenant", letter.tenantId],
    ["order key", letter.orderKey],
    ["trace", letter.trace],
    ["enqueued at", letter.createdAt],
    ["attempts", letter.attempts],
    ["first failed", letter.firstFailedAt],
    ["last failed", letter.lastFailedAt],
    ["fingerprint", letter.fingerprint],
    ["replays", letter.replayCount],
    ["claimed until", letter.deadline],
    ["completed at", letter.completedAt],
    ["completed by", letter.completedBy],
    ["rejected by", letter.rejectedBy],
    ["reason", letter.rejectReason],
    ["error", letter.error],
  ];
  const shown = fields.flatMap(([name, value]) =>
    value === null ? [] : [`${name.padEnd(13)}  ${plainText(String(value))}`],
  );
  const payload =
    letter.payload === null
      ? "payload        hidden; --payload shows it"
      : `payload\n${readablePayload(letter.payload)}`;
  return [...shown, payload].join("\n");
};

/** JSON with its indents; what is not JSON, as it may be just for that reason, on one line. */
const readablePayload = (payload: string): string => {
  try {
    return JSON.stringify(JSON.parse(payload), null, 2);
  } catch {
    return plainText(payload);
  }
};

/** `requeued 2 dead letters`, and below it what was left alone and why. */
export const printChange = (done: string, { changed, skipped }: Change): string =>
  [
    `${done} ${changed.length} dead letters`,
    ...skipped.map(({ id, reason }) => `left ${id} alone: ${reasonText(reason)}`),
  ].join("\n");

const reasonText = (reason: Change["skipped"][number]["reason"]): string => {
  if (reason === "unknown") return "there is no such dead letter";
  if (reason === "pending") return "its queue has no partitions";
  if (reason === "reprocessing") return "another operator has claimed it";
  return `it is ${reason}`;
};
