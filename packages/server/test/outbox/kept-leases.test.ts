import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from "vitest";
import type { Db } from "../../src/db/pool.ts";
import { sleep } from "../../src/lib/sleep.ts";
import { createClaimSizes } from "../../src/outbox/claim-sizes.ts";
import { done } from "../../src/outbox/message.ts";
import { createTestDatabase } from "../support/database.ts";
import { drained, enqueueNumbers, freshOutbox, ownOutboxes, serving, tenantOf } from "./support.ts";

let database: Awaited<ReturnType<typeof createTestDatabase>>;
let db: Db;
const { outboxOf, stopAll } = ownOutboxes(() => db);

beforeAll(async () => {
  database = await createTestDatabase();
  db = database.db;
  // Every moment at which a partition is free for anybody is written down.
  await db.query("create table freed (id int)");
  await db.query(`
    create function note_freed() returns trigger language plpgsql as $$
    begin
      insert into freed values (new.id);
      return null;
    end $$`);
  await db.query(`
    create trigger note_freed
    after update on outbox_partition
    for each row
    when (old.lease_token is not null and new.lease_token is null)
    execute function note_freed()`);
});
beforeEach(async () => {
  await freshOutbox(db);
  await db.query("truncate freed");
});
afterEach(stopAll);
afterAll(() => database.drop());

const timesFreed = async (): Promise<number> =>
  (await db.query<{ n: number }>("select count(*)::int as n from freed")).rows[0]?.n ?? 0;

/** Drains full batches of one partition; how many handler calls that took. */
const drain = async (messages: number, handlerMs: number): Promise<number> => {
  const outbox = await outboxOf();
  const numbers = Array.from({ length: messages }, (_, at) => at);
  await enqueueNumbers(outbox, db, tenantOf(0), numbers);
  let calls = 0;
  await outbox.start(
    serving({
      usage: async (batch) => {
        calls += 1;
        if (handlerMs > 0) await sleep(handlerMs);
        return batch.map(() => done);
      },
    }),
  );
  await drained(db);
  await outbox.stop();
  return calls;
};

describe("a busy partition (outbox-engine.md, Acknowledge)", () => {
  it("stays with its worker from batch to batch", async () => {
    const calls = await drain(200, 0);
    expect(calls).toBe(20);
    expect(await timesFreed()).toBeLessThan(calls / 2);
  });

  it("is free for others once the worker has had its fair share", async () => {
    const calls = await drain(30, 300);
    expect(calls).toBe(3);
    expect(await timesFreed()).toBe(calls);
  });

  it("is free after a stop, whenever that comes", async () => {
    const outbox = await outboxOf();
    await enqueueNumbers(
      outbox,
      db,
      tenantOf(0),
      Array.from({ length: 100 }, (_, at) => at),
    );
    const called = Promise.withResolvers<void>();
    await outbox.start(
      serving({
        usage: async (batch) => {
          called.resolve();
          return batch.map(() => done);
        },
      }),
    );
    await called.promise;
    await outbox.stop();
    const { rows } = await db.query("select from outbox_partition where lease_token is not null");
    expect(rows).toEqual([]);
  });
});

describe("the size of claims", () => {
  it.each([
    { batchSize: 100, sizes: [16, 32, 64, 100, 100] },
    { batchSize: 10, sizes: [10, 10, 10, 10, 10] },
  ])("doubles up to $batchSize with each delivered batch", ({ batchSize, sizes }) => {
    const claims = createClaimSizes(batchSize);
    const seen = sizes.map(() => {
      const size = claims.of("usage");
      claims.succeeded("usage");
      return size;
    });
    expect(seen).toEqual(sizes);
  });

  it("halves while nothing is delivered, of that queue alone", () => {
    const claims = createClaimSizes(100);
    for (const kind of ["usage", "audit"] as const) for (let at = 0; at < 4; at += 1) claims.succeeded(kind);
    const seen = Array.from({ length: 4 }, () => {
      claims.failed("usage");
      return claims.of("usage");
    });
    expect(seen).toEqual([50, 25, 16, 16]);
    expect(claims.of("audit")).toBe(100);
  });
});
