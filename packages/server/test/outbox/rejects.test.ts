import { randomUUID } from "node:crypto";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from "vitest";
import type { Db } from "../../src/db/pool.ts";
import { inTransaction } from "../../src/db/tx.ts";
import { requeueDeadLetters } from "../../src/outbox/dead-letters.ts";
import { listDead } from "../../src/outbox/dead-store.ts";
import type { Message, Verdict } from "../../src/outbox/message.ts";
import { queueSettings } from "../../src/outbox/queue.ts";
import { settlementOf } from "../../src/outbox/settle.ts";
import { claim, readHorizon, settle } from "../../src/outbox/store.ts";
import { rejectWaiting } from "../../src/outbox/waiting.ts";
import { listWaiting, type WaitingHead } from "../../src/outbox/waiting-store.ts";
import { waitingForLocks } from "../crash/support.ts";
import { createTestDatabase, type TestDatabase } from "../support/database.ts";
import { deadRows, depsOf } from "./dead-support.ts";
import {
  countRows,
  drained,
  enqueueNumbers,
  eventually,
  expireLeases,
  freshOutbox,
  numberOf,
  ownOutboxes,
  recorder,
  serving,
  signal,
  tenantOf,
  testConfig,
} from "./support.ts";

let database: TestDatabase;
let db: Db;
const { outboxOf, stopAll } = ownOutboxes(() => db);
beforeAll(async () => {
  database = await createTestDatabase();
  db = database.db;
});
afterAll(() => database.drop());
beforeEach(async () => {
  await outboxOf();
  await freshOutbox(db);
});
afterEach(stopAll);

const down: Verdict = { kind: "retry", error: "the sink answered 500" };
const done: Verdict = { kind: "done" };
const { usage } = queueSettings(testConfig);

const enqueue = async (tenantId: string, numbers: readonly number[]): Promise<void> =>
  enqueueNumbers(await outboxOf(), db, tenantId, numbers);

const claimUsage = async (closed = 0n) => {
  const token = randomUUID();
  const messages = await claim(
    db,
    [{ settings: usage, partitions: 16, batch: 10, worker: "test" }],
    token,
    closed,
  );
  return { token, messages };
};

/** Acknowledges a claim of one partition; resolves with whether its lease still stood. */
const answer = async (
  { token, messages }: Awaited<ReturnType<typeof claimUsage>>,
  verdict: (message: Message) => Verdict | undefined,
  maxAttempts = Number.POSITIVE_INFINITY,
): Promise<boolean> => {
  const partitionId = messages[0]?.partitionId ?? 0;
  const settlement = settlementOf({ partitionId, token, messages }, messages.map(verdict), {
    policy: "park_key",
    maxAttempts,
    backoff: () => 60_000,
  });
  return (await settle(db, [settlement])).has(partitionId);
};

/** The first message of each key that has failed, or of each key at all. */
const heads = (all = false): Promise<WaitingHead[]> => listWaiting(db, { all }, { limit: 100 });

const headOf = async (tenantId: string): Promise<WaitingHead> => {
  const head = (await heads(true)).find((one) => one.tenantId === tenantId);
  if (head === undefined) throw new Error("nothing waits");
  return head;
};

const messageIds = async (): Promise<string[]> =>
  (await db.query<{ message_id: string }>("select message_id from outbox_message order by id")).rows.map(
    (row) => row.message_id,
  );

const reject = (messageId: string, change: { actor?: string; patienceMs?: number } = {}) =>
  rejectWaiting(depsOf(db), messageId, {
    actor: "ann",
    reason: "ticket 4711",
    patienceMs: 60_000,
    ...change,
  });

describe("a message that is refused for ever", () => {
  test("is given up by an operator, and what waits behind it is delivered, in order", async () => {
    const [sick, well] = [tenantOf(0), tenantOf(0)];
    const { seen, handler, until } = recorder(({ tenantId }, { number }) =>
      tenantId === sick && number === 1 ? down : done,
    );
    const outbox = await outboxOf();
    await outbox.start(serving({ usage: handler }));
    await enqueueNumbers(outbox, db, sick, [1, 2, 3]);
    await until((all) => all.filter(({ number }) => number === 1).length >= 3);
    await enqueueNumbers(outbox, db, well, [4]);
    await until((all) => all.some(({ number }) => number === 4));
    const { messageId } = await headOf(sick);
    const letter = await rejectWaiting(depsOf(db, { flush: outbox.flush }), messageId, { actor: "ann" });
    await until((all) => all.some(({ number }) => number === 3));
    const numbers = seen.filter(({ tenantId }) => tenantId === sick).map(({ number }) => number);
    const tries = numbers.filter((number) => number === 1).length;
    expect(numbers).toEqual([...Array<number>(tries).fill(1), 2, 3]);
    expect(letter).toMatchObject({
      messageId,
      tenantId: sick,
      status: "pending",
      attempts: tries,
      error: "the sink answered 500",
      rejectedBy: "ann",
      rejectReason: null,
      completedBy: null,
    });
    await drained(db);
    expect(await countRows(db, "outbox_parked")).toBe(0);
  });

  test("can be requeued: it is delivered behind the others of its key", async () => {
    const tenantId = tenantOf(0);
    await enqueue(tenantId, [1, 2]);
    await answer(await claimUsage(), () => down);
    const { messageId } = await headOf(tenantId);
    const { id } = await reject(messageId);
    expect(await requeueDeadLetters(depsOf(db), [id], "bob")).toMatchObject({ changed: [id] });
    const { seen, handler, until } = recorder();
    await (await outboxOf()).start(serving({ usage: handler }));
    await until((all) => all.length === 2);
    expect(seen.map(({ number }) => number)).toEqual([2, 1]);
    expect(seen[1]).toMatchObject({ messageId, attempts: 1 });
    expect(await deadRows(db)).toMatchObject([{ status: "resolved", completed_by: "bob" }]);
  });

  test("tells why and since when it failed, and who gave it up", async () => {
    const tenantId = tenantOf(0);
    await enqueue(tenantId, [1]);
    await answer(await claimUsage(), () => down);
    const { firstFailedAt, messageId, attempts } = await headOf(tenantId);
    expect(attempts).toBe(1);
    await reject(messageId);
    const [letter] = await listDead(db, {}, { limit: 1, withPayload: true });
    expect(letter).toMatchObject({
      queue: "usage",
      kind: "usage",
      attempts: 1,
      firstFailedAt,
      error: down.kind === "retry" ? down.error : "",
      rejectedBy: "ann",
      rejectReason: "ticket 4711",
      payload: expect.stringContaining('"web_search_calls":1'),
    });
    expect(Date.parse(letter?.lastFailedAt ?? "")).toBeGreaterThanOrEqual(Date.parse(firstFailedAt ?? ""));
  });

  test("hides nothing of its key behind the bound claims read from", async () => {
    const [sick, other, well] = [tenantOf(0), tenantOf(0), tenantOf(0)];
    await enqueue(sick, [1, 2, 3]);
    await enqueue(other, [4]);
    await answer(await claimUsage(), () => down);
    await enqueue(well, [5]);
    const lastId = (await readHorizon(db))?.lastId ?? 0n;
    expect(await answer(await claimUsage(lastId), () => done)).toBe(true);
    expect((await claimUsage(lastId)).messages).toEqual([]);
    const { rows } = await db.query<{ bound: bigint }>(
      "select max(read_from) as bound from outbox_partition where queue = 'usage'",
    );
    expect(rows[0]?.bound).toBe(lastId + 1n);
    await reject((await headOf(sick)).messageId);
    // The other key still waits, so claims read from the bound.
    expect((await claimUsage(lastId)).messages.map(numberOf)).toEqual([2, 3]);
  });

  test("of a `block` queue holds its partition up no longer: its workers are woken", async () => {
    const block = { override: { usage: { policy: "block" } } } as const;
    const tenants = [tenantOf(0), tenantOf(0)] as const;
    const { seen, handler, until } = recorder((_, { number }) =>
      number === 1 ? { ...down, afterMs: 60_000 } : done,
    );
    // The poll is far away: only the reject can wake the worker.
    const outbox = await outboxOf({ queues: block, config: { poll_interval_ms: 60_000 } });
    await outbox.start(serving({ usage: handler }));
    await enqueueNumbers(outbox, db, tenants[0], [1]);
    await until((all) => all.length === 1);
    await enqueueNumbers(outbox, db, tenants[1], [2]);
    await eventually(async () => (await heads()).some(({ condition }) => condition === "backing off"));
    const [head] = await heads();
    expect(head).toMatchObject({ tenantId: tenants[0], attempts: 1, error: "the sink answered 500" });
    await rejectWaiting(depsOf(db, { flush: outbox.flush }), head?.messageId ?? "", { actor: "ann" });
    await until((all) => all.length === 2);
    expect(seen.map(({ number }) => number)).toEqual([1, 2]);
  });
});

describe("only the head of an order key is given up", () => {
  test("what lies behind it was not tried, and stays", async () => {
    await enqueue(tenantOf(0), [1, 2]);
    await answer(await claimUsage(), (message) => (numberOf(message) === 1 ? down : undefined));
    const before = await messageIds();
    await expect(reject(before[1] ?? "")).rejects.toMatchObject({ reason: "behind" });
    expect(await messageIds()).toEqual(before);
    expect(await countRows(db, "outbox_parked")).toBe(1);
  });

  test("a head nobody has tried may be: its queue is paused, or nothing serves it", async () => {
    const tenantId = tenantOf(0);
    await enqueue(tenantId, [1, 2]);
    await db.query("update outbox_partition set paused = true where queue = 'usage'");
    expect(await heads()).toEqual([]);
    expect(await heads(true)).toMatchObject([
      { tenantId, attempts: 0, condition: "paused", firstFailedAt: null, error: null, behind: 1 },
    ]);
    const letter = await reject((await headOf(tenantId)).messageId);
    expect(letter).toMatchObject({ attempts: 0, error: "given up before it failed" });
    expect((await claimUsage()).messages).toEqual([]);
    await db.query("update outbox_partition set paused = false");
    expect((await claimUsage()).messages.map(numberOf)).toEqual([2]);
  });

  test("what is not there is unknown, and so is what was delivered", async () => {
    await expect(reject(randomUUID())).rejects.toMatchObject({ reason: "unknown" });
    await enqueue(tenantOf(0), [1]);
    const [messageId = ""] = await messageIds();
    await answer(await claimUsage(), () => done);
    await expect(reject(messageId)).rejects.toMatchObject({ reason: "unknown" });
    expect(await deadRows(db)).toEqual([]);
  });
});

describe("a delivery under way", () => {
  test("is not cut off: the reject is refused, and nothing changes", async () => {
    await enqueue(tenantOf(0), [1]);
    const [messageId = ""] = await messageIds();
    const claimed = await claimUsage();
    await expect(reject(messageId, { patienceMs: 0 })).rejects.toMatchObject({ reason: "leased" });
    expect(await deadRows(db)).toEqual([]);
    expect(await answer(claimed, () => done)).toBe(true);
    expect(await messageIds()).toEqual([]);
  });

  test("is refused where the partition does not exist, and the operator told what helps", async () => {
    await enqueue(tenantOf(0), [1]);
    const { rows } = await db.query<{ id: string }>(
      "update outbox_message set partition_id = 99999 returning message_id as id",
    );
    const refused = reject(rows[0]?.id ?? "");
    await expect(refused).rejects.toMatchObject({ reason: "stray" });
    await expect(refused).rejects.toThrow("repartition");
    expect(await countRows(db, "outbox_message")).toBe(1);
  });

  test.each<[string, Verdict, "rejected" | "unknown"]>([
    ["fails", { kind: "retry", error: "no", afterMs: 60_000 }, "rejected"],
    ["succeeds", done, "unknown"],
  ])("is waited for: it %s, and the message is what the worker made of it", async (_, verdict, outcome) => {
    const tenantId = tenantOf(0);
    const [entered, release] = [signal(), signal()];
    const worker = await outboxOf();
    await enqueueNumbers(worker, db, tenantId, [1]);
    const [messageId = ""] = await messageIds();
    await worker.start(
      serving({
        usage: async (messages) => {
          entered.give();
          await release.given;
          return messages.map(() => verdict);
        },
      }),
    );
    await entered.given;
    const looked = signal();
    const watched: Db = Object.create(db, {
      run: {
        value: (client: never, statement: { name?: string }, values: never) => {
          if (statement.name === "outbox_partition_take") looked.give();
          return db.run(client, statement as never, values);
        },
      },
    });
    const rejecting = rejectWaiting(depsOf(watched), messageId, { actor: "ann", patienceMs: 60_000 }).then(
      () => "rejected",
      (error: { reason: string }) => error.reason,
    );
    await looked.given;
    release.give();
    expect(await rejecting).toBe(outcome);
    expect(await countRows(db, "outbox_dead")).toBe(outcome === "rejected" ? 1 : 0);
    expect(await messageIds()).toEqual([]);
  });

  test("whose acknowledgement is about to commit wins: nothing is given up twice", async () => {
    await enqueue(tenantOf(0), [1]);
    const [messageId = ""] = await messageIds();
    const { token, messages } = await claimUsage();
    const [message] = messages;
    if (message === undefined) throw new Error("nothing claimed");
    const outcome = await inTransaction(db, async (tx) => {
      const settled = { partitionId: message.partitionId, token, messages: [message] };
      await settle(tx, [
        settlementOf(settled, [done], { policy: "park_key", maxAttempts: 5, backoff: () => 1 }),
      ]);
      const rejecting = reject(messageId).catch((error: { reason: string }) => error.reason);
      await waitingForLocks(db);
      return { rejecting };
    });
    expect(await outcome.rejecting).toBe("unknown");
    expect(await deadRows(db)).toEqual([]);
  });

  test("by a worker that sleeps past its lease counts for nothing afterwards", async () => {
    const [sick, well] = [tenantOf(0), tenantOf(0)];
    await enqueue(sick, [1, 2]);
    await enqueue(well, [3]);
    const asleep = await claimUsage();
    await expireLeases(db);
    await reject((await headOf(sick)).messageId);
    expect(await answer(asleep, () => done)).toBe(false);
    expect(await deadRows(db)).toHaveLength(1);
    expect((await claimUsage()).messages.map(numberOf)).toEqual([2, 3]);
  });
});

test("of many operators at once one gives it up, and the others find it gone", async () => {
  const tenantId = tenantOf(0);
  await enqueue(tenantId, [1, 2]);
  await answer(await claimUsage(), () => down);
  const { messageId } = await headOf(tenantId);
  const outcomes = await Promise.all(
    Array.from({ length: 6 }, (_, at) =>
      reject(messageId, { actor: `operator ${at}` }).then(
        ({ rejectedBy }) => rejectedBy,
        (error: { reason: string }) => error.reason,
      ),
    ),
  );
  expect(outcomes.filter((outcome) => outcome === "unknown")).toHaveLength(5);
  const [letter, ...more] = await deadRows(db);
  expect(more).toEqual([]);
  expect(outcomes).toContain(letter?.rejected_by);
  expect((await claimUsage()).messages.map(numberOf)).toEqual([2]);
});

test("rejects beside a busy worker lose nothing, disorder nothing and deliver nothing given up", async () => {
  const tenants = Array.from({ length: 6 }, (_, at) => tenantOf(at % 2));
  const numbers = Array.from({ length: 30 }, (_, at) => at);
  // Every fifth is refused for ever.
  const refused = (number: number): boolean => number % 5 === 0;
  const { seen, handler } = recorder((_, { number }) => (refused(number) ? { ...down, afterMs: 1 } : done));
  const outbox = await outboxOf();
  await outbox.start(serving({ usage: handler }));
  for (const tenantId of tenants) await enqueueNumbers(outbox, db, tenantId, numbers);
  const deps = depsOf(db, { flush: outbox.flush });
  while ((await countRows(db, "outbox_message")) > 0) {
    const found = (await heads()).filter(({ attempts }) => attempts >= 2);
    await Promise.all(
      found.map(({ messageId }) =>
        rejectWaiting(deps, messageId, { actor: "ann" }).catch((error: { reason?: string }) => {
          if (error.reason === undefined) throw error;
        }),
      ),
    );
  }
  for (const tenantId of tenants) {
    const delivered = seen.filter((one) => one.tenantId === tenantId && !refused(one.number));
    expect(delivered.map(({ number }) => number)).toEqual(numbers.filter((number) => !refused(number)));
  }
  const dead = await listDead(db, { status: "all" }, { limit: 1_000, withPayload: true });
  const given = Map.groupBy(dead, ({ tenantId }) => tenantId);
  for (const tenantId of tenants) {
    const inOrder = (given.get(tenantId) ?? [])
      .toReversed()
      .map(({ payload }) => numberOf({ payload } as never));
    expect(inOrder).toEqual(numbers.filter(refused));
  }
});

describe("the list of what waits", () => {
  test("tells each head's own error, not its neighbour's", async () => {
    const [one, other] = [tenantOf(0), tenantOf(0)];
    await enqueue(one, [1]);
    await enqueue(other, [2, 3]);
    await answer(await claimUsage(), (message) => ({ kind: "retry", error: `no ${numberOf(message)}` }));
    expect((await heads()).map(({ tenantId, error, behind }) => [tenantId, error, behind])).toEqual([
      [one, "no 1", 0],
      [other, "no 2", 1],
    ]);
  });

  test("keeps the error and the time of the first failure through later ones", async () => {
    const tenantId = tenantOf(0);
    await enqueue(tenantId, [1]);
    await answer(await claimUsage(), () => down);
    const first = await headOf(tenantId);
    await db.query("update outbox_parked set until = now()");
    // Claimed and given back: the error stays.
    await answer(await claimUsage(), () => undefined);
    expect(await headOf(tenantId)).toMatchObject({ error: first.error, firstFailedAt: first.firstFailedAt });
    await answer(await claimUsage(), () => ({ kind: "retry", error: "gone" }));
    expect(await headOf(tenantId)).toMatchObject({
      attempts: 2,
      error: "gone",
      firstFailedAt: first.firstFailedAt,
      condition: "backing off",
    });
  });

  test("has nothing that is being delivered for the first time, unless all is asked for", async () => {
    await enqueue(tenantOf(0), [1]);
    await claimUsage();
    expect(await heads()).toEqual([]);
    expect(await heads(true)).toMatchObject([{ attempts: 1, condition: "leased" }]);
    // Its worker died: that is a failure.
    await expireLeases(db);
    expect(await heads()).toMatchObject([{ attempts: 1, condition: "due" }]);
  });

  test("is walked page by page, and filtered", async () => {
    const tenants = Array.from({ length: 5 }, (_, at) => tenantOf(at % 2));
    for (const [at, tenantId] of tenants.entries()) await enqueue(tenantId, [at, at]);
    const walked: string[] = [];
    for (let after: bigint | undefined; ; ) {
      const page = await listWaiting(db, { all: true }, { limit: 2, after });
      walked.push(...page.map(({ tenantId }) => tenantId));
      after = page.at(-1)?.id;
      if (after === undefined) break;
    }
    expect(walked).toEqual(tenants);
    const found = async (filter: object) =>
      (await listWaiting(db, { all: true, ...filter }, { limit: 9 })).map(({ tenantId }) => tenantId);
    expect(await found({ tenantId: tenants[3] })).toEqual([tenants[3]]);
    expect(await found({ queue: "audit" })).toEqual([]);
    const { partitionId } = await headOf(tenants[1] ?? "");
    expect(await found({ queue: "usage", partitionId })).toEqual([tenants[1], tenants[3]]);
  });
});

test("a dead letter its attempts made tells when its message failed first", async () => {
  const tenantId = tenantOf(0);
  await enqueue(tenantId, [1]);
  await answer(await claimUsage(), () => down);
  const { firstFailedAt } = await headOf(tenantId);
  await db.query("update outbox_parked set until = now()");
  await answer(await claimUsage(), () => down, 2);
  const [letter] = await listDead(db, {}, { limit: 1, withPayload: false });
  expect(letter).toMatchObject({ firstFailedAt, rejectedBy: null, attempts: 2 });
  expect(letter?.lastFailedAt).not.toBe(firstFailedAt);
});
