import { randomUUID } from "node:crypto";
import fc from "fast-check";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { type DeadFilter, type DeadStatus, deadStatuses } from "../../src/outbox/dead-letter.ts";
import {
  type Change,
  changeSelected,
  claimDeadLetters,
  discardDeadLetters,
  purgeDeadLetters,
  rejectDeadLetters,
  requeueDeadLetters,
  resolveDeadLetters,
} from "../../src/outbox/dead-letters.ts";
import { countDead, findDead, groupDead, listDead } from "../../src/outbox/dead-store.ts";
import { queueSettings } from "../../src/outbox/queue.ts";
import type { Metrics } from "../../src/telemetry/metrics.ts";
import { createTestDatabase, type TestDatabase } from "../support/database.ts";
import { type DeadLetterInsert, deadRows, depsOf, expireClaims, insertDead, letDie } from "./dead-support.ts";
import {
  countRows,
  enqueueNumbers,
  freshOutbox,
  numberOf,
  ownOutboxes,
  recorder,
  registeredOutbox,
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
  await outboxOf();
  await freshOutbox(database.db);
  await database.db.query("truncate outbox_dead restart identity");
});
afterEach(stopAll);

const deps = (change = {}) => depsOf(database.db, change);
const ann = "ann";

describe("a dead letter", () => {
  test("holds all that is needed to understand and to deliver it again", async () => {
    const tenantId = tenantOf(1);
    const [id = 0n] = await letDie(database.db, tenantId, [7], "the sink answered 400");
    const letter = await findDead(database.db, id, true);
    expect(letter).toMatchObject({
      queue: "usage",
      kind: "usage",
      tenantId,
      orderKey: tenantId,
      status: "pending",
      attempts: 1,
      replayCount: 0,
      error: "the sink answered 400",
      deadline: null,
      completedAt: null,
      completedBy: null,
    });
    expect(JSON.parse(letter?.payload ?? "").web_search_calls).toBe(7);
  });

  test("shows its payload only when asked", async () => {
    const [id = 0n] = await letDie(database.db, tenantOf(1), [7]);
    expect((await findDead(database.db, id, false))?.payload).toBeNull();
    const [listed] = await listDead(database.db, {}, { limit: 1, withPayload: false });
    expect(listed?.payload).toBeNull();
  });

  test("that does not exist is not found", async () => {
    expect(await findDead(database.db, 404n, true)).toBeNull();
  });
});

describe("the list", () => {
  const tenant = randomUUID();
  const letters: readonly DeadLetterInsert[] = [
    { daysAgo: 3 },
    { daysAgo: 2, queue: "audit", kind: "audit", tenantId: tenant },
    { daysAgo: 1, error: "other" },
    { daysAgo: 5, status: "resolved" },
    { daysAgo: 4, status: "discarded" },
    { daysAgo: 6, status: "replaying" },
  ];
  const ids = async (filter: DeadFilter): Promise<number[]> =>
    (await listDead(database.db, filter, { limit: 100, withPayload: false })).map(({ id }) => Number(id));

  beforeEach(async () => {
    await insertDead(database.db, letters);
  });

  test("has the pending ones, newest first", async () => {
    expect(await ids({})).toEqual([3, 2, 1]);
  });

  test.each<[string, DeadFilter, number[]]>([
    ["queue", { queue: "audit" }, [2]],
    ["kind", { kind: "audit" }, [2]],
    ["tenant", { tenantId: tenant }, [2]],
    ["status", { status: "resolved" }, [4]],
    ["a claim", { status: "reprocessing" }, [6]],
    ["any status", { status: "all" }, [3, 2, 1, 5, 4, 6]],
    ["several at once", { queue: "audit", kind: "usage" }, []],
  ])("is filtered by %s, and counted alike", async (_, filter, expected) => {
    expect(await ids(filter)).toEqual(expected);
    expect(await countDead(database.db, filter)).toBe(expected.length);
  });

  test("is filtered by fingerprint and by partition", async () => {
    const [other] = await listDead(database.db, {}, { limit: 1, withPayload: false });
    expect(await ids({ fingerprint: other?.fingerprint })).toEqual([3]);
    expect(await ids({ partitionId: other?.partitionId })).toEqual([3, 1]);
  });

  test("is walked page by page, equal times included", async () => {
    await insertDead(
      database.db,
      Array.from({ length: 7 }, () => ({ daysAgo: 1 })),
    );
    await database.db.query("update outbox_dead set last_failed_at = '2026-01-01T00:00:00.000001Z'");
    const seen: number[] = [];
    for (let last: { lastFailedAt: string; id: bigint } | undefined; ; ) {
      const page = await listDead(database.db, {}, { limit: 3, after: last, withPayload: false });
      seen.push(...page.map(({ id }) => Number(id)));
      last = page.at(-1);
      if (last === undefined) break;
    }
    expect(seen).toEqual([13, 12, 11, 10, 9, 8, 7, 3, 2, 1]);
  });

  test("is summed up by cause, the largest first", async () => {
    await insertDead(database.db, [{ error: "other" }]);
    expect(await groupDead(database.db, {}, 2)).toMatchObject([
      { queue: "usage", status: "pending", letters: 2, error: "other" },
      { queue: "audit", status: "pending", letters: 1, error: "boom" },
    ]);
  });
});

describe("requeue", () => {
  test("delivers the same message again, and the dead letter is resolved", async () => {
    const tenantId = tenantOf(2);
    const [id = 0n] = await letDie(database.db, tenantId, [7]);
    const [before] = await deadRows(database.db);
    const { seen, handler, until } = recorder();
    const outbox = await outboxOf({ config: { poll_interval_ms: 60_000 } });
    await outbox.start(serving({ usage: handler }));
    // The poll is far away: only the flush can wake the worker.
    const change = await requeueDeadLetters(deps({ flush: outbox.flush }), [id], ann);
    expect(change).toEqual({ changed: [id], skipped: [] });
    await until((all) => all.length === 1);
    expect(seen[0]).toMatchObject({ messageId: before?.message_id, tenantId, number: 7, attempts: 1 });
    expect(await deadRows(database.db)).toMatchObject([
      { id, status: "resolved", replay_count: 1, completed_by: ann, payload: before?.payload },
    ]);
  });

  test("goes to the tail of the old partition, in the order of the dead letters", async () => {
    const tenantId = tenantOf(2);
    const ids = await letDie(database.db, tenantId, [1, 2, 3]);
    const [dead] = await deadRows(database.db);
    const outbox = await outboxOf();
    await enqueueNumbers(outbox, database.db, tenantId, [4]);
    await requeueDeadLetters(deps(), ids.toReversed(), ann);
    const { rows } = await database.db.query<{ partition_id: number; payload: string; message_id: string }>(
      "select partition_id, payload, message_id from outbox_message order by partition_id, id",
    );
    expect(rows.map((row) => numberOf(row as never))).toEqual([4, 1, 2, 3]);
    expect(new Set(rows.map((row) => row.partition_id))).toEqual(new Set([dead?.partition_id]));
  });

  test("by many operators at once happens once", async () => {
    const ids = await letDie(database.db, tenantOf(1), [1, 2, 3, 4, 5]);
    const changes = await Promise.all(
      Array.from({ length: 8 }, (_, at) => requeueDeadLetters(deps(), ids, `operator ${at}`)),
    );
    expect(changes.flatMap(({ changed }) => changed).toSorted()).toEqual(ids);
    expect(changes.flatMap(({ skipped }) => skipped).every(({ reason }) => reason === "resolved")).toBe(true);
    expect(await countRows(database.db, "outbox_message")).toBe(5);
    expect((await deadRows(database.db)).map((row) => row.replay_count)).toEqual([1, 1, 1, 1, 1]);
  });

  test("leaves alone what is not waiting, and says why", async () => {
    await insertDead(database.db, [
      { status: "resolved" },
      { status: "discarded" },
      { status: "replaying" },
      { queue: "an-old-queue", kind: "an-old-kind" },
    ]);
    expect(await requeueDeadLetters(deps(), [1n, 2n, 3n, 4n, 99n], ann)).toEqual({
      changed: [],
      skipped: [
        { id: 1n, reason: "resolved" },
        { id: 2n, reason: "discarded" },
        { id: 3n, reason: "reprocessing" },
        { id: 4n, reason: "pending" },
        { id: 99n, reason: "unknown" },
      ],
    });
    expect(await countRows(database.db, "outbox_message")).toBe(0);
  });

  test("takes over a claim that has run out", async () => {
    const ids = await insertDead(database.db, [{ status: "replaying" }]);
    await expireClaims(database.db);
    expect((await requeueDeadLetters(deps(), ids, ann)).changed).toEqual(ids);
  });

  test("finds the partition anew when the queue has another number of them", async () => {
    const tenantId = tenantOf(7);
    const [id = 0n] = await letDie(database.db, tenantId, [1]);
    await database.db.query("insert into outbox_partition (queue, no) select 'usage', generate_series(4, 7)");
    await requeueDeadLetters(deps(), [id], ann);
    const { rows } = await database.db.query(
      "select p.no from outbox_message m join outbox_partition p on p.id = m.partition_id",
    );
    expect(rows).toEqual([{ no: 7 }]);
    await database.db.query("delete from outbox_partition where queue = 'usage' and no > 3");
  });

  test("goes to the queue that serves its kind now, whatever that was called before", async () => {
    const renamed = await createTestDatabase();
    try {
      await registeredOutbox(renamed.db);
      const ids = await insertDead(renamed.db, [{}]);
      const names = { ...testConfig, queue_name: "usage-v2" };
      await registeredOutbox(renamed.db, { config: names });
      const change = { queues: queueSettings(names) };
      expect((await requeueDeadLetters(depsOf(renamed.db, change), ids, ann)).changed).toEqual(ids);
      const { rows } = await renamed.db.query(
        "select p.queue from outbox_message m join outbox_partition p on p.id = m.partition_id",
      );
      expect(rows).toEqual([{ queue: "usage-v2" }]);
    } finally {
      await renamed.drop();
    }
  });

  test("of a filter takes what is there now, not what dies meanwhile", async () => {
    // With one connection the new dead letter is there before the next step looks.
    const single = await createTestDatabase({ maxConnections: 1 });
    try {
      await registeredOutbox(single.db);
      const ids = await insertDead(single.db, [{}]);
      let died: Promise<unknown> = Promise.resolve();
      const { changed } = await changeSelected(
        depsOf(single.db),
        "requeue",
        { filter: {}, limit: 1_000 },
        {
          actor: ann,
          onProgress: () => {
            died = insertDead(single.db, [{}]);
          },
        },
      );
      await died;
      expect(changed).toEqual(ids);
    } finally {
      await single.drop();
    }
  });

  test("of a filter is bounded by its limit, oldest first, and tells how far it is", async () => {
    const ids = await insertDead(
      database.db,
      Array.from({ length: 450 }, () => ({})),
    );
    const told: number[] = [];
    const { changed } = await changeSelected(
      deps(),
      "requeue",
      { filter: {}, limit: 410 },
      { actor: ann, onProgress: (done) => told.push(done) },
    );
    expect(changed).toEqual(ids.slice(0, 410));
    expect(told).toEqual([200, 400, 410]);
  });

  test("counts as enqueued and is logged with who did it", async () => {
    const ids = await letDie(database.db, tenantOf(1), [1, 2]);
    const counted: unknown[] = [];
    const lines: [object, string][] = [];
    const metrics = { count: (...args: unknown[]) => counted.push(args) } as unknown as Metrics;
    const logger = {
      ...depsOf(database.db).logger,
      info: (fields: object, msg: string) => lines.push([fields, msg]),
    };
    await requeueDeadLetters(deps({ metrics, logger }), ids, ann);
    const once = ["outbox_enqueue", { kind: "usage", result: "ok" }];
    expect(counted).toEqual([once, once]);
    const messages = (await deadRows(database.db)).map((row) => row.message_id);
    expect(lines).toEqual([
      [
        expect.objectContaining({ actor: ann, dead_letter_ids: ids, message_ids: messages }),
        "dead letters requeued",
      ],
    ]);
  });
});

describe("claim, resolve, reject", () => {
  const claim = (limit = 10, scope: DeadFilter = {}) =>
    claimDeadLetters(deps(), scope, { timeoutSecs: 60, limit, actor: ann });

  test("a claim holds pending letters until its deadline, oldest first, payload included", async () => {
    await letDie(database.db, tenantOf(1), [1, 2, 3]);
    const letters = await claim(2);
    expect(letters.map(({ payload }) => JSON.parse(payload ?? "").web_search_calls)).toEqual([1, 2]);
    expect(letters.every(({ status, deadline }) => status === "reprocessing" && deadline !== null)).toBe(
      true,
    );
    expect((await claim()).map(({ id }) => id)).toEqual([3n]);
    expect(await claim()).toEqual([]);
  });

  test("an expired claim is claimable again", async () => {
    await insertDead(database.db, [{}]);
    await claim();
    await expireClaims(database.db);
    expect(await claim()).toHaveLength(1);
  });

  test("parallel claims never hand out one letter twice", async () => {
    await insertDead(
      database.db,
      Array.from({ length: 40 }, () => ({})),
    );
    const claims = await Promise.all(Array.from({ length: 8 }, () => claim(10)));
    const ids = claims.flat().map(({ id }) => id);
    expect(new Set(ids).size).toBe(ids.length);
  });

  test("keeps to its scope", async () => {
    await insertDead(database.db, [{ queue: "audit" }, {}]);
    expect((await claim(10, { queue: "audit" })).map(({ id }) => id)).toEqual([1n]);
  });

  test("a rejected one waits again, with one more attempt and the new reason", async () => {
    const [id = 0n] = await insertDead(database.db, [{ daysAgo: 1 }]);
    const before = (await deadRows(database.db))[0];
    await claim();
    await rejectDeadLetters(deps(), [id], { reason: "still 17 wrong", actor: ann });
    const [after] = await deadRows(database.db);
    expect(after).toMatchObject({ status: "pending", attempts: 2, error: "still 17 wrong", deadline: null });
    expect(after?.fingerprint).not.toBe(before?.fingerprint);
    // As the acknowledgement would group it.
    await letDie(database.db, tenantOf(1), [1], "still 99 wrong");
    expect((await deadRows(database.db))[1]?.fingerprint).toBe(after?.fingerprint);
  });

  test("a resolved one is over", async () => {
    const [id = 0n] = await insertDead(database.db, [{}]);
    await claim();
    await resolveDeadLetters(deps(), [id], ann);
    expect(await deadRows(database.db)).toMatchObject([
      { status: "resolved", completed_by: ann, replay_count: 0, deadline: null },
    ]);
  });
});

/** The arrows of the diagram in outbox.md §11; every other pair changes nothing. */
const allowed: Record<string, Partial<Record<DeadStatus, DeadStatus>>> = {
  claim: { pending: "reprocessing" },
  resolve: { reprocessing: "resolved" },
  reject: { reprocessing: "pending" },
  discard: { pending: "discarded" },
  requeue: { pending: "resolved" },
};

const operations: Record<string, (id: bigint) => Promise<unknown>> = {
  claim: () => claimDeadLetters(deps(), {}, { timeoutSecs: 60, limit: 1, actor: ann }),
  resolve: (id) => resolveDeadLetters(deps(), [id], ann),
  reject: (id) => rejectDeadLetters(deps(), [id], { reason: "no", actor: ann }),
  discard: (id) => discardDeadLetters(deps(), [id], ann),
  requeue: (id) => requeueDeadLetters(deps(), [id], ann),
};

const pairs = Object.keys(operations).flatMap((operation) =>
  deadStatuses.map((from) => [operation, from, allowed[operation]?.[from] ?? from] as const),
);

test.each(pairs)("%s of a letter that is %s leaves it %s", async (operation, from, to) => {
  const stored = from === "reprocessing" ? "replaying" : from;
  const [id = 0n] = await insertDead(database.db, [{ status: stored }]);
  const outcome = await operations[operation]?.(id);
  expect((await findDead(database.db, id, false))?.status).toBe(to);
  const moved = from !== to;
  if (operation !== "claim") expect((outcome as Change).changed).toEqual(moved ? [id] : []);
  expect(await countRows(database.db, "outbox_message")).toBe(moved && operation === "requeue" ? 1 : 0);
});

test("whatever operators do at once, a letter is enqueued as often as it was requeued, and ends once", async () => {
  const step = fc.constantFrom(...Object.keys(operations));
  await fc.assert(
    fc.asyncProperty(
      fc.array(fc.array(step, { minLength: 2, maxLength: 4 }), { maxLength: 4 }),
      async (rounds) => {
        await freshOutbox(database.db);
        const [id = 0n] = await insertDead(database.db, [{}]);
        for (const round of rounds) await Promise.all(round.map((operation) => operations[operation]?.(id)));
        const [row] = await deadRows(database.db);
        expect(await countRows(database.db, "outbox_message")).toBe(row?.replay_count);
        expect(row?.replay_count).toBeLessThanOrEqual(1);
        if (row?.replay_count === 1) expect(row.status).toBe("resolved");
      },
    ),
    { numRuns: 30 },
  );
});

describe("discard", () => {
  test("gives up what is pending, with who did it", async () => {
    const ids = await insertDead(database.db, [{}, {}]);
    await changeSelected(deps(), "discard", { ids }, { actor: ann });
    expect(await deadRows(database.db)).toMatchObject([
      { status: "discarded", completed_by: ann },
      { status: "discarded", completed_by: ann },
    ]);
  });

  test("against a requeue at the same moment: one of them wins, and the loser is told", async () => {
    for (let round = 0; round < 20; round += 1) {
      await freshOutbox(database.db);
      const ids = await insertDead(database.db, [{}]);
      const [requeued, discarded] = await Promise.all([
        requeueDeadLetters(deps(), ids, ann),
        discardDeadLetters(deps(), ids, "bob"),
      ]);
      expect(requeued.changed.length + discarded.changed.length).toBe(1);
      expect(await countRows(database.db, "outbox_message")).toBe(requeued.changed.length);
    }
  });
});

describe("purge", () => {
  const left = async (): Promise<string[]> => (await deadRows(database.db)).map((row) => row.status);
  const purge = (olderThanDays: number, queue?: string) =>
    purgeDeadLetters(deps(), { olderThanDays, queue }, { actor: ann });

  test("deletes what was resolved or discarded long enough ago, never what waits", async () => {
    await insertDead(database.db, [
      { status: "resolved", daysAgo: 31 },
      { status: "discarded", daysAgo: 31 },
      { status: "resolved", daysAgo: 29 },
      { status: "pending", daysAgo: 400 },
      { status: "replaying", daysAgo: 400 },
    ]);
    expect(await purge(30)).toBe(2);
    expect(await left()).toEqual(["resolved", "pending", "replaying"]);
  });

  test("counts from when it was dealt with, not from when it failed", async () => {
    await insertDead(database.db, [{ daysAgo: 400 }]);
    await discardDeadLetters(deps(), [1n], ann);
    expect(await purge(30)).toBe(0);
    expect(await purge(0)).toBe(1);
  });

  test("of one queue leaves the others", async () => {
    await insertDead(database.db, [
      { status: "resolved", daysAgo: 31 },
      { status: "resolved", daysAgo: 31, queue: "audit" },
    ]);
    expect(await purge(30, "audit")).toBe(1);
    expect((await deadRows(database.db)).map((row) => row.queue)).toEqual(["usage"]);
  });

  test("deletes in bounded batches, two at once included, and stops when told", async () => {
    await database.db.query(
      `insert into outbox_dead (queue, partition_id, message_id, tenant_id, order_key, kind, payload, created_at,
         attempts, last_failed_at, error, fingerprint, status, completed_at)
       select 'usage', 1, gen_random_uuid(), gen_random_uuid(), gen_random_uuid(), 'usage', '{}', now(), 1,
         now() - interval '40 days', 'e', 'f', 'resolved', now() - interval '40 days'
       from generate_series(1, 2500)`,
    );
    const over = new AbortController();
    const told: number[] = [];
    const deleted = await purgeDeadLetters(
      deps(),
      { olderThanDays: 30 },
      {
        actor: ann,
        signal: over.signal,
        onProgress: (done) => {
          told.push(done);
          over.abort();
        },
      },
    );
    expect([deleted, told]).toEqual([1_000, [1_000]]);
    const both = await Promise.all([purge(30), purge(30)]);
    expect(both.reduce((sum, one) => sum + one, 0)).toBe(1_500);
    expect(await left()).toEqual([]);
  });
});
