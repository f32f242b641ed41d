import { randomUUID } from "node:crypto";
import { afterAll, beforeAll, beforeEach, describe, expect, it } from "vitest";
import type { Db } from "../../src/db/pool.ts";
import type { Message, Verdict } from "../../src/outbox/message.ts";
import { queueSettings } from "../../src/outbox/queue.ts";
import { settlementOf } from "../../src/outbox/settle.ts";
import { claim, settle } from "../../src/outbox/store.ts";
import { createTestDatabase } from "../support/database.ts";
import {
  countRows,
  drained,
  enqueueNumbers,
  expireLeases,
  freshOutbox,
  numberOf,
  ownOutboxes,
  recorder,
  serving,
  tenantOf,
  testConfig,
} from "./support.ts";

let database: Awaited<ReturnType<typeof createTestDatabase>>;
let db: Db;
const { outboxOf, stopAll } = ownOutboxes(() => db);

beforeAll(async () => {
  database = await createTestDatabase();
  db = database.db;
});
beforeEach(async () => {
  await stopAll();
  await freshOutbox(db);
});
afterAll(async () => {
  await stopAll();
  await database.drop();
});

const { usage } = queueSettings(testConfig);

interface Claimed {
  readonly token: string;
  readonly messages: readonly Message[];
}

const claimUsage = async (partitions = 16): Promise<Claimed> => {
  const token = randomUUID();
  const messages = await claim(db, [{ settings: usage, partitions, batch: 10, worker: "test" }], token);
  return { token, messages };
};

const numbersOf = ({ messages }: Claimed): number[] => messages.map(numberOf);

/** Acknowledges a claim with the verdict for each message. */
const answer = async ({ token, messages }: Claimed, verdict: (message: Message) => Verdict) => {
  const partitions = Map.groupBy(messages, ({ partitionId }) => partitionId);
  const settlements = [...partitions].map(([partitionId, batch]) =>
    settlementOf({ partitionId, token, messages: batch }, batch.map(verdict), {
      policy: "park_key",
      maxAttempts: Number.POSITIVE_INFINITY,
      backoff: () => 60_000,
    }),
  );
  expect((await settle(db, settlements)).size).toBe(partitions.size);
};

const down: Verdict = { kind: "retry", error: "down" };
const done: Verdict = { kind: "done" };

/** Ends the wait of every key and partition now. */
const endWaits = async (): Promise<void> => {
  await db.query("update outbox_parked set until = now() - interval '1 ms'");
  await db.query("update outbox_partition set not_before = null");
};

describe("a key that waits (outbox-engine.md O5)", () => {
  it("is left out of claims until its time, while later messages of others are given", async () => {
    const outbox = await outboxOf();
    const [sick, well] = [tenantOf(0), tenantOf(0)];
    await enqueueNumbers(outbox, db, sick, [1]);
    await answer(await claimUsage(), () => down);
    await enqueueNumbers(outbox, db, sick, [2]);
    await enqueueNumbers(outbox, db, well, [3]);
    const around = await claimUsage();
    expect(numbersOf(around)).toEqual([3]);
    await answer(around, () => done);
    expect(numbersOf(await claimUsage())).toEqual([]);
    await endWaits();
    const again = await claimUsage();
    expect(again.messages.map((one) => [numberOf(one), one.parked, one.attempts])).toEqual([[1, true, 2]]);
  });

  it("does not take the place of partitions that have something to give", async () => {
    const outbox = await outboxOf();
    for (const partition of [0, 1, 2]) await enqueueNumbers(outbox, db, tenantOf(partition), [partition]);
    await answer(await claimUsage(), () => down);
    await enqueueNumbers(outbox, db, tenantOf(3), [3]);
    // The partition that can be served was served last, so a claim of one looks at the others first.
    await db.query("update outbox_partition set last_served_at = now() where queue = 'usage' and no = 3");
    await db.query("update outbox_partition set not_before = null");
    expect(numbersOf(await claimUsage(1))).toEqual([3]);
  });

  it("lets its partition be looked at again within a tenth of a second, not all the time", async () => {
    const outbox = await outboxOf();
    await enqueueNumbers(outbox, db, tenantOf(0), [1]);
    await answer(await claimUsage(), () => down);
    await claimUsage();
    const { rows } = await db.query<{ ms: number }>(`
      select extract(epoch from not_before - last_served_at)::float8 * 1000 as ms
      from outbox_partition
      where queue = 'usage'
        and no = 0`);
    // Twenty times what the look took, on a slow machine.
    expect(rows[0]?.ms).toBeGreaterThanOrEqual(99.9);
    expect(rows[0]?.ms).toBeLessThan(2_000);
  });

  it("waits on after a crash of its probe, longer than the lease, with the attempt counted", async () => {
    const outbox = await outboxOf();
    const [sick, well] = [tenantOf(0), tenantOf(0)];
    await enqueueNumbers(outbox, db, sick, [1]);
    await answer(await claimUsage(), () => down);
    await endWaits();
    expect(numbersOf(await claimUsage())).toEqual([1]);
    await enqueueNumbers(outbox, db, well, [2]);
    await expireLeases(db);
    expect(numbersOf(await claimUsage())).toEqual([2]);
    await expireLeases(db);
    await endWaits();
    const again = await claimUsage();
    expect(again.messages.map((one) => [numberOf(one), one.attempts])).toContainEqual([1, 3]);
  });
});

describe("batch size after a failure (outbox-engine.md, Handlers)", () => {
  it("is one message, then doubles with each success", async () => {
    const outbox = await outboxOf();
    const sizes: number[] = [];
    const numbers = Array.from({ length: 30 }, (_, at) => at);
    await enqueueNumbers(outbox, db, tenantOf(0), numbers);
    await outbox.start(
      serving({
        usage: async (messages) => {
          sizes.push(messages.length);
          return messages.map((): Verdict => (sizes.length === 1 ? { ...down, afterMs: 1 } : done));
        },
      }),
    );
    await drained(db);
    expect(sizes).toEqual([10, 1, 2, 4, 8, 10, 5]);
  });

  it("drops for the whole partition when a handler fails without saying at which message", async () => {
    const outbox = await outboxOf();
    const batches: number[][] = [];
    const tenants = [tenantOf(0), tenantOf(0), tenantOf(0)];
    for (const [at, tenant] of tenants.entries()) await enqueueNumbers(outbox, db, tenant, [at]);
    await outbox.start(
      serving({
        usage: async (messages) => {
          batches.push(messages.map(numberOf));
          if (batches.length === 1) throw new Error("no idea where");
          return messages.map(() => done);
        },
      }),
    );
    await drained(db);
    expect(batches[0]).toEqual([0, 1, 2]);
    expect(batches[1]).toHaveLength(1);
    expect(batches.flat().sort()).toEqual([0, 0, 1, 1, 2, 2]);
  });

  it("does not drop for the neighbours of a failing key", async () => {
    const outbox = await outboxOf();
    const [sick, well] = [tenantOf(0), tenantOf(0)];
    await enqueueNumbers(outbox, db, sick, [1]);
    await enqueueNumbers(outbox, db, well, [2, 3, 4, 5, 6]);
    const { seen, handler } = recorder(({ tenantId }, { attempts }) =>
      tenantId === sick && attempts < 4 ? { ...down, afterMs: 1 } : done,
    );
    const sizes: number[] = [];
    await outbox.start(
      serving({
        usage: (messages, context) => {
          sizes.push(messages.length);
          return handler(messages, context);
        },
      }),
    );
    await drained(db);
    expect(sizes).toEqual([6, 1, 1, 1]);
    expect(seen.filter(({ tenantId }) => tenantId === sick).map(({ attempts }) => attempts)).toEqual([
      1, 2, 3, 4,
    ]);
  });
});

describe("a handler that attempts nothing", () => {
  it("is asked again after a back-off, not in a loop, and no attempt is counted", async () => {
    let passes = 0;
    const outbox = await outboxOf({
      config: { retry_base_ms: 40, retry_max_ms: 40 },
      onPass: () => {
        passes += 1;
      },
    });
    const attempts: number[] = [];
    const startedAt: number[] = [];
    await enqueueNumbers(outbox, db, tenantOf(0), [1]);
    await outbox.start(
      serving({
        usage: async (messages) => {
          startedAt.push(performance.now());
          attempts.push(...messages.map((message) => message.attempts));
          return startedAt.length < 4 ? [] : messages.map(() => done);
        },
      }),
    );
    await drained(db);
    expect(attempts).toEqual([1, 1, 1, 1]);
    const gaps = startedAt.slice(1).map((at, index) => at - (startedAt[index] ?? 0));
    // Back-off with jitter: at least half of the base.
    for (const gap of gaps) expect(gap).toBeGreaterThanOrEqual(19);
    expect(passes).toBeGreaterThan(3);
    expect(await countRows(db, "outbox_parked")).toBe(0);
  });
});
