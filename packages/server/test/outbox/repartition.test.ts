import { randomUUID } from "node:crypto";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { removeInstance, renewInstance } from "../../src/db/instances.ts";
import { inTransaction } from "../../src/db/tx.ts";
import { requeueDeadLetters } from "../../src/outbox/dead-letters.ts";
import { partitionOf, type QueueKind, queueKinds, queueSettings } from "../../src/outbox/queue.ts";
import { repartition } from "../../src/outbox/repartition.ts";
import { readOutboxStatus } from "../../src/outbox/status.ts";
import { noLogger } from "../../src/telemetry/log.ts";
import { holdLock, waitingForLocks } from "../crash/support.ts";
import { createTestDatabase, type TestDatabase } from "../support/database.ts";
import { depsOf, letDie } from "./dead-support.ts";
import {
  countRows,
  enqueueNumbers,
  eventually,
  freshOutbox,
  numbered,
  ownOutboxes,
  recorder,
  serving,
  tenantOf,
  testConfig,
} from "./support.ts";

let database: TestDatabase;
beforeAll(async () => {
  database = await createTestDatabase();
});
afterAll(() => database.drop());
const { outboxOf, stopAll } = ownOutboxes(() => database.db);
beforeEach(async () => {
  await freshOutbox(database.db);
  await database.db.query("delete from outbox_partition");
  await outboxOf();
});
afterEach(async () => {
  await stopAll();
  await database.db.query("delete from app_instances");
});

const queues = queueSettings(testConfig);
const all = queueKinds.map((kind) => queues[kind]);

const change = (count: number, kinds: readonly QueueKind[] = queueKinds) =>
  repartition(
    { db: database.db, logger: noLogger },
    kinds.map((kind) => queues[kind]),
    count,
    { actor: "ann", instanceLeaseSecs: 30 },
  );

const counts = async (): Promise<Record<string, number>> => {
  const { rows } = await database.db.query<{ queue: string; n: number }>(
    "select queue, count(*)::int as n from outbox_partition group by queue",
  );
  return Object.fromEntries(rows.map(({ queue, n }) => [queue, n]));
};

const numbers = async (queue: string): Promise<number[]> =>
  (
    await database.db.query<{ no: number }>("select no from outbox_partition where queue = $1 order by no", [
      queue,
    ])
  ).rows.map(({ no }) => no);

/** Resolves as soon as so many statements wait for locks. */
const waiters = (count: number): Promise<void> =>
  eventually(async () => {
    const { rows } = await database.db.query(
      "select from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'",
    );
    return rows.length >= count;
  });

const instance = (role: "all" | "api" | "worker") => ({ id: randomUUID(), role, version: "test" });

describe("repartition", () => {
  test.each([1, 2, 8, 64])("gives every queue %d partitions, numbered without gaps", async (count) => {
    const { queues: changed } = await change(count);
    expect(changed).toEqual(all.map(({ name }) => ({ queue: name, before: 4, after: count })));
    for (const { name } of all)
      expect(await numbers(name)).toEqual(Array.from({ length: count }, (_, no) => no));
  });

  test("to the same count changes nothing", async () => {
    const before = (await database.db.query("select * from outbox_partition order by id")).rows;
    await change(4);
    expect((await database.db.query("select * from outbox_partition order by id")).rows).toEqual(before);
  });

  test("makes a start with another configured count fail, and one with the new count serve", async () => {
    await change(8);
    await expect(outboxOf()).rejects.toMatchObject({ reason: "partition_count_mismatch" });
    const outbox = await outboxOf({ config: { num_partitions: 8 } });
    const { seen, handler, until } = recorder();
    await outbox.start(serving({ usage: handler }));
    for (let at = 0; at < 8; at += 1) await enqueueNumbers(outbox, database.db, tenantOf(at), [at]);
    await until((found) => found.length === 8);
    expect(seen.map(({ number }) => number).toSorted()).toEqual([0, 1, 2, 3, 4, 5, 6, 7]);
  });

  test("of one queue alone leaves the others, and no count starts until they follow", async () => {
    await change(8, ["usage"]);
    expect(await counts()).toMatchObject({ usage: 8, audit: 4 });
    for (const num_partitions of [4, 8]) {
      await expect(outboxOf({ config: { num_partitions } })).rejects.toMatchObject({
        reason: "partition_count_mismatch",
      });
    }
    await change(8);
    await outboxOf({ config: { num_partitions: 8 } });
  });

  test("keeps what was paused", async () => {
    await database.db.query("update outbox_partition set paused = true where queue = 'usage' and no = 1");
    await change(8);
    const { rows } = await database.db.query("select queue, no from outbox_partition where paused");
    expect(rows).toEqual([{ queue: "usage", no: 1 }]);
  });

  test("lets a dead letter of before be requeued where its key belongs now", async () => {
    const tenantId = tenantOf(3);
    const ids = await letDie(database.db, tenantId, [1]);
    await change(2);
    await requeueDeadLetters(depsOf(database.db), ids, "ann");
    const { rows } = await database.db.query(
      "select p.no from outbox_message m join outbox_partition p on p.id = m.partition_id",
    );
    expect(rows).toEqual([{ no: partitionOf(tenantId, 2) }]);
  });
});

describe("is refused, and changes nothing,", () => {
  const refused = async (reason: RegExp, count = 8): Promise<void> => {
    await expect(change(count)).rejects.toMatchObject({
      name: "RepartitionRefused",
      message: expect.stringMatching(reason),
    });
    expect(new Set(Object.values(await counts()))).toEqual(new Set([4]));
  };

  test.each(["all", "api", "worker"] as const)("while a process of role %s lives", async (role) => {
    const one = instance(role);
    await renewInstance(database.db, one, 30);
    await refused(new RegExp(`stop every process first: ${one.id} \\(${role}`));
    await removeInstance(database.db, one.id);
    await change(8);
  });

  test("but not for a process that died long enough ago", async () => {
    await renewInstance(database.db, instance("all"), 30);
    await database.db.query("update app_instances set last_seen_at = now() - interval '31 seconds'");
    await change(8);
  });

  test("while a message waits in one of the queues", async () => {
    const outbox = await outboxOf();
    await enqueueNumbers(outbox, database.db, tenantOf(1), [1]);
    await refused(/queue usage is not drained: 1 messages/);
  });

  test("while a worker holds a lease", async () => {
    await database.db.query(`
      update outbox_partition
      set lease_token = gen_random_uuid(), lease_until = now() + interval '1 minute', locked_by = 'w'
      where queue = 'audit' and no = 0`);
    await refused(/queue audit is being worked on/);
  });

  test.each([0, 3, 128])("for %d partitions", (count) => refused(/not a power of two/, count));
});

describe("at the same time as", () => {
  test("an enqueue that has not committed: it waits, and then refuses", async () => {
    const outbox = await outboxOf();
    const refused = inTransaction(database.db, async (tx) => {
      await outbox.enqueuer.enqueueUsageEvent(tx, numbered(tenantOf(1), 1));
      const changing = change(8).catch((error: unknown) => error);
      await waitingForLocks(database.db);
      return { changing };
    });
    expect(await (await refused).changing).toMatchObject({ name: "RepartitionRefused" });
    expect(await countRows(database.db, "outbox_message")).toBe(1);
  });

  test("itself: one changes, the other finds it changed", async () => {
    const results = await Promise.all([change(8), change(8)]);
    expect(results.flatMap(({ queues: changed }) => changed.map(({ before }) => before)).toSorted()).toEqual([
      ...Array(6).fill(4),
      ...Array(6).fill(8),
    ]);
    expect(new Set(Object.values(await counts()))).toEqual(new Set([8]));
  });

  const start = async (): Promise<void> => {
    await renewInstance(database.db, instance("all"), 30);
    await outboxOf();
  };

  test("a start with the old count: either it refuses, or the start does", async () => {
    for (let round = 0; round < 5; round += 1) {
      await database.db.query("delete from app_instances");
      await change(4);
      const [changed, started] = await Promise.allSettled([change(8), start()]);
      expect([changed.status, started.status].toSorted()).toEqual(["fulfilled", "rejected"]);
    }
  });

  test("a start that comes after it has looked for processes: the start waits for the new count", async () => {
    // It stops where it has checked everything and changed nothing.
    const release = await holdLock(database.url, "lock table outbox_parked in exclusive mode");
    const changing = change(8);
    await waitingForLocks(database.db);
    const started = start().then(
      () => "serves",
      (error: unknown) => error,
    );
    const waits = waiters(2).then(() => "waits");
    expect(await Promise.race([started, waits])).toBe("waits");
    await release();
    await changing;
    expect(await started).toMatchObject({ reason: "partition_count_mismatch" });
  });

  test("a requeue: the message is where its key belongs, or the repartition refused", async () => {
    for (let round = 0; round < 5; round += 1) {
      await freshOutbox(database.db);
      await change(4);
      const tenantId = tenantOf(7);
      const ids = await letDie(database.db, tenantId, [1]);
      const [changed] = await Promise.allSettled([
        change(8),
        requeueDeadLetters(depsOf(database.db), ids, "ann"),
      ]);
      const count = changed.status === "fulfilled" ? 8 : 4;
      const { rows } = await database.db.query(
        "select p.no from outbox_message m join outbox_partition p on p.id = m.partition_id",
      );
      expect(rows).toEqual([{ no: partitionOf(tenantId, count) }]);
    }
  });
});

test("what a process that was frozen meanwhile wrote to old partitions is found, and delivered in order", async () => {
  const frozen = await outboxOf();
  await change(1);
  const [one, other] = [tenantOf(2), tenantOf(3)];
  for (const number of [1, 2]) {
    await enqueueNumbers(frozen, database.db, one, [number]);
    await enqueueNumbers(frozen, database.db, other, [number + 10]);
  }
  expect((await readOutboxStatus(database.db, all, { withOthers: true })).strays).toBe(4);
  expect((await change(1)).adopted).toBe(4);
  const outbox = await outboxOf({ config: { num_partitions: 1 } });
  const { seen, handler, until } = recorder();
  await outbox.start(serving({ usage: handler }));
  await until((found) => found.length === 4);
  expect(seen.map(({ number }) => number)).toEqual([1, 11, 2, 12]);
});
