import type { Queryable } from "../db/pool.ts";
import type { DeadStatus } from "./dead-letter.ts";
import { countDeadByState, type DeadCount } from "./dead-store.ts";
import { countStrays, type PartitionState, readPartitionStates, readUnserved } from "./partition-store.ts";
import type { QueueKind, QueueSettings } from "./queue.ts";

export interface QueueStatus {
  readonly queue: string;
  /** Null: no queue of this configuration, but messages or dead letters of it are there. */
  readonly kind: QueueKind | null;
  readonly backlog: number;
  /** Of the message that has waited longest; null when none waits. */
  readonly oldestAgeSecs: number | null;
  readonly partitions: number;
  readonly leased: number;
  readonly paused: number;
  readonly backingOff: number;
  readonly parkedKeys: number;
  readonly dead: Readonly<Record<DeadStatus, number>>;
}

export interface OutboxStatus {
  readonly queues: readonly QueueStatus[];
  readonly partitions: readonly PartitionState[];
  /** Messages in no partition; not 0: repartition with the same count moves them back. */
  readonly strays: number;
}

/** What waits, what is stuck and what was given up, by queue and by partition. */
export const readOutboxStatus = async (
  db: Queryable,
  queues: readonly Pick<QueueSettings, "name" | "kind">[],
  options: { readonly withOthers: boolean },
): Promise<OutboxStatus> => {
  const names = queues.map(({ name }) => name);
  const dead = await countDeadByState(db);
  const others = options.withOthers
    ? [...new Set([...(await readUnserved(db, names)), ...dead.map(({ queue }) => queue)])].filter(
        (queue) => !names.includes(queue),
      )
    : [];
  const partitions = await readPartitionStates(db, [...names, ...others]);
  return {
    queues: [
      ...queues.map(({ name, kind }) => queueStatus(name, kind, partitions, dead)),
      ...others.map((name) => queueStatus(name, null, partitions, dead)),
    ],
    partitions,
    strays: await countStrays(db),
  };
};

const queueStatus = (
  queue: string,
  kind: QueueKind | null,
  all: readonly PartitionState[],
  dead: readonly DeadCount[],
): QueueStatus => {
  const partitions = all.filter((one) => one.queue === queue);
  const ages = partitions.flatMap(({ oldestAgeSecs }) => oldestAgeSecs ?? []);
  const count = (fits: (one: PartitionState) => boolean): number => partitions.filter(fits).length;
  const letters = (status: DeadStatus): number =>
    dead.find((one) => one.queue === queue && one.status === status)?.letters ?? 0;
  return {
    queue,
    kind,
    backlog: partitions.reduce((sum, { backlog }) => sum + backlog, 0),
    oldestAgeSecs: ages.length === 0 ? null : Math.max(...ages),
    partitions: partitions.length,
    leased: count(({ leased }) => leased),
    paused: count(({ paused }) => paused),
    backingOff: count((one) => conditionOf({ ...one, paused: false, leased: false }) === "backing off"),
    parkedKeys: partitions.reduce((sum, { parkedKeys }) => sum + parkedKeys, 0),
    dead: {
      pending: letters("pending"),
      reprocessing: letters("reprocessing"),
      resolved: letters("resolved"),
      discarded: letters("discarded"),
    },
  };
};

export type PartitionCondition = "paused" | "leased" | "backing off" | "keys waiting" | "due" | "idle";

/** What an operator needs to know of a partition first. */
export const conditionOf = (partition: PartitionState): PartitionCondition => {
  if (partition.paused) return "paused";
  if (partition.leased) return "leased";
  // Where all keys wait, claims put the partition off for moments at a time: that says nothing more.
  if (partition.parkedKeys > 0) return "keys waiting";
  if (partition.notBefore !== null) return "backing off";
  return partition.backlog > 0 ? "due" : "idle";
};
