import { randomUUID } from "node:crypto";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from "vitest";
import type { Db } from "../../src/db/pool.ts";
import type { Message } from "../../src/outbox/message.ts";
import { queueSettings } from "../../src/outbox/queue.ts";
import { claim } from "../../src/outbox/store.ts";
import { createTestDatabase } from "../support/database.ts";
import {
  drained,
  enqueueNumbers,
  freshOutbox,
  numberOf,
  ownOutboxes,
  serving,
  signal,
  tenantOf,
  testConfig,
} from "./support.ts";

let database: Awaited<ReturnType<typeof createTestDatabase>>;
let db: Db;
const { outboxOf, stopAll } = ownOutboxes(() => db);
const many = { num_partitions: 16, processors: 16, poll_interval_ms: 60_000 } as const;
const { usage } = queueSettings(testConfig);

beforeAll(async () => {
  database = await createTestDatabase();
  db = database.db;
});
beforeEach(() => freshOutbox(db));
afterEach(stopAll);
afterAll(() => database.drop());

const claimUsage = (partitions: number): Promise<Message[]> =>
  claim(db, [{ settings: usage, partitions, batch: 10, worker: "test" }], randomUUID());

/** A key that waits for a minute in each of these partitions, with a message. */
const waitingKeys = async (outbox: Awaited<ReturnType<typeof outboxOf>>, partitions: readonly number[]) => {
  for (const partition of partitions) await enqueueNumbers(outbox, db, tenantOf(partition), [-1]);
  await db.query(`
    insert into outbox_parked (partition_id, order_key, until, attempts)
    select partition_id, order_key, now() + interval '1 minute', 1
    from outbox_message`);
};

const upTo = (count: number): number[] => Array.from({ length: count }, (_, at) => at);

describe("partitions in which some key waits (outbox-engine.md O5, outbox.md O8)", () => {
  it("do not keep a claim from those in which none does, however many they are", async () => {
    const outbox = await outboxOf({ config: many });
    await waitingKeys(outbox, upTo(15));
    await enqueueNumbers(outbox, db, tenantOf(15), [1]);
    await db.query("update outbox_partition set last_served_at = now() where queue = 'usage' and no = 15");
    expect((await claimUsage(8)).map(numberOf)).toEqual([1]);
  });

  it("are served side by side when all of them have something to give", { timeout: 10_000 }, async () => {
    const outbox = await outboxOf({ config: many });
    const partitions = upTo(12);
    await waitingKeys(outbox, partitions);
    for (const partition of partitions) await enqueueNumbers(outbox, db, tenantOf(partition), [partition]);
    const all = signal();
    let running = 0;
    await outbox.start(
      serving({
        usage: async (messages) => {
          running += 1;
          if (running === partitions.length) all.give();
          await all.given;
          return messages.map(() => ({ kind: "done" }));
        },
      }),
    );
    await all.given;
    await db.query("truncate outbox_parked");
    await db.query("delete from outbox_message where payload like '%\"web_search_calls\":-1%'");
    await drained(db);
  });

  it("that a claim leaves bring on the next one, before those it looked at are due again", async () => {
    const outbox = await outboxOf({ config: many });
    await waitingKeys(outbox, upTo(9));
    expect(await claimUsage(16)).toEqual([]);
    const { rows } = await db.query(`
      select count(*)::int as n, count(not_before)::int as told
      from outbox_partition
      where queue = 'usage'
        and no < 9
        and last_served_at is null`);
    expect(rows).toEqual([{ n: 5, told: 1 }]);
  });
});
