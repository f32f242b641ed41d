import type { Db, Queryable } from "../db/pool.ts";
import { inTransaction } from "../db/tx.ts";
import { OutboxError } from "./enqueuer.ts";
import { readUnserved } from "./partition-store.ts";
import { type QueueKind, type QueueSettings, queueKinds } from "./queue.ts";
import { insertPartitions, lockPartitions, type PartitionMap, readPartitions } from "./store.ts";

/**
 * Makes sure that every queue has its `count` partitions and returns them. Safe when many processes
 * start together; changes nothing on later starts. Throws `OutboxError` `partition_count_mismatch`
 * when a queue is stored with another count: keys would move between partitions (outbox.md §3), and
 * `unserved_queue` when messages wait in a queue that was renamed: nobody would deliver them (O6).
 */
export const registerQueues = async (
  db: Db,
  queues: Readonly<Record<QueueKind, QueueSettings>>,
  count: number,
): Promise<PartitionMap> => {
  const unserved = await readUnserved(db, namesOf(queues));
  if (unserved.length > 0) {
    throw new OutboxError(
      "unserved_queue",
      `messages wait in ${unserved.join(", ")}, which no outbox.*queue_name names: keep the name until they are delivered`,
    );
  }
  const found = await readMap(db, queues, count);
  if (found !== null) return found;
  return inTransaction(db, async (tx) => {
    await lockPartitions(tx);
    // Another process may have registered while this one waited for the lock; a count may differ.
    await readMap(tx, queues, count);
    await Promise.all(queueKinds.map((kind) => insertPartitions(tx, queues[kind].name, count)));
    const map = await readMap(tx, queues, count);
    if (map === null) throw new OutboxError("partition_count_mismatch", "partitions are missing");
    return map;
  });
};

const namesOf = (queues: Readonly<Record<QueueKind, QueueSettings>>): string[] =>
  queueKinds.map((kind) => queues[kind].name);

/** The partitions of all queues; null when some queue has none yet. */
const readMap = async (
  db: Queryable,
  queues: Readonly<Record<QueueKind, QueueSettings>>,
  count: number,
): Promise<PartitionMap | null> => {
  const rows = await readPartitions(db, namesOf(queues));
  let complete = true;
  const idsOf = (kind: QueueKind): readonly number[] => {
    const { name } = queues[kind];
    const ids = rows.filter((row) => row.queue === name).map((row) => row.id);
    if (ids.length === 0) complete = false;
    else if (ids.length !== count) {
      throw new OutboxError(
        "partition_count_mismatch",
        `queue ${name} is stored with ${ids.length} partitions, configured with ${count}`,
      );
    }
    return ids;
  };
  const map: PartitionMap = {
    usage: idsOf("usage"),
    attachment_cleanup: idsOf("attachment_cleanup"),
    chat_cleanup: idsOf("chat_cleanup"),
    thread_summary: idsOf("thread_summary"),
    audit: idsOf("audit"),
    doc_summary: idsOf("doc_summary"),
  };
  return complete ? map : null;
};
