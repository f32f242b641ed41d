import { listLiveInstances, lockInstances } from "../db/instances.ts";
import type { Db } from "../db/pool.ts";
import { inTransaction } from "../db/tx.ts";
import type { Logger } from "../telemetry/log.ts";
import { adoptStrays, lockOutbox, readPartitionStates, resizeQueue } from "./partition-store.ts";
import type { QueueSettings } from "./queue.ts";

/** The partitions cannot be changed now; nothing was. */
export class RepartitionRefused extends Error {
  override name = "RepartitionRefused";
}

export interface Repartitioned {
  readonly queue: string;
  readonly before: number;
  readonly after: number;
}

export interface RepartitionResult {
  readonly queues: readonly Repartitioned[];
  /** Messages of partitions that were no more, found a place again. */
  readonly adopted: number;
}

/** A power of two up to this (ops.md §2.4). */
export const maxPartitions = 64;

export const isPartitionCount = (count: number): boolean =>
  Number.isInteger(count) && count >= 1 && count <= maxPartitions && Number.isInteger(Math.log2(count));

/**
 * Gives these queues another number of partitions, all or none (outbox.md §3). Order keys move between
 * partitions with it, so nothing may wait in them, and no process may live that knows the old ones: it
 * throws `RepartitionRefused` otherwise. A process that starts meanwhile waits for the end of it, and
 * then refuses another configured count. `instanceLeaseSecs`: how long a silent process counts as alive.
 */
export const repartition = async (
  deps: { readonly db: Db; readonly logger: Logger },
  queues: readonly Pick<QueueSettings, "name" | "kind">[],
  count: number,
  options: { readonly actor: string; readonly instanceLeaseSecs: number },
): Promise<RepartitionResult> => {
  if (!isPartitionCount(count)) {
    throw new RepartitionRefused(`${count} is not a power of two from 1 to ${maxPartitions}`);
  }
  // Without the locks first: they would hold up the very processes that are in the way.
  refuseLive(await listLiveInstances(deps.db, options.instanceLeaseSecs), options.instanceLeaseSecs);
  const result = await inTransaction(deps.db, async (tx) => {
    await lockInstances(tx);
    await lockOutbox(tx);
    const names = queues.map(({ name }) => name);
    const [live, partitions] = await Promise.all([
      listLiveInstances(tx, options.instanceLeaseSecs),
      readPartitionStates(tx, names),
    ]);
    refuseLive(live, options.instanceLeaseSecs);
    for (const name of names)
      refuseBusy(
        name,
        partitions.filter(({ queue }) => queue === name),
      );
    const changed: Repartitioned[] = [];
    let adopted = 0;
    for (const { name, kind } of queues) {
      const before = partitions.filter(({ queue }) => queue === name).length;
      if (before !== count) await resizeQueue(tx, name, count);
      adopted += await adoptStrays(tx, name, kind);
      changed.push({ queue: name, before, after: count });
    }
    return { queues: changed, adopted };
  });
  deps.logger.info(
    { actor: options.actor, queues: result.queues, adopted: result.adopted, processing_stage: "outbox" },
    "outbox repartitioned",
  );
  return result;
};

type Live = Awaited<ReturnType<typeof listLiveInstances>>[number];

const refuseLive = (live: readonly Live[], leaseSecs: number): void => {
  if (live.length === 0) return;
  const each = live.map(
    ({ id, role, silentSecs }) => `${id} (${role}, seen ${Math.round(silentSecs)} s ago)`,
  );
  throw new RepartitionRefused(
    `stop every process first: ${each.join(", ")}; one that was killed counts as alive for ${leaseSecs} s`,
  );
};

type Waiting = Awaited<ReturnType<typeof readPartitionStates>>[number];

const refuseBusy = (queue: string, partitions: readonly Waiting[]): void => {
  const backlog = partitions.reduce((sum, one) => sum + one.backlog, 0);
  if (backlog > 0) {
    throw new RepartitionRefused(
      `queue ${queue} is not drained: ${backlog} messages wait; let workers deliver them, then stop them`,
    );
  }
  const leased = partitions.filter((one) => one.leased);
  if (leased.length > 0) {
    throw new RepartitionRefused(
      `queue ${queue} is being worked on: ${leased.length} partitions are leased, e.g. by ${leased[0]?.lockedBy}`,
    );
  }
};
