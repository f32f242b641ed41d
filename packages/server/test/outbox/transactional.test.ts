import { randomUUID } from "node:crypto";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from "vitest";
import type { Db } from "../../src/db/pool.ts";
import type { Held } from "../../src/outbox/held.ts";
import { createLimits } from "../../src/outbox/limits.ts";
import type { TransactionalHandler, Verdict } from "../../src/outbox/message.ts";
import { queueSettings } from "../../src/outbox/queue.ts";
import { settlementOf } from "../../src/outbox/settle.ts";
import { claim } from "../../src/outbox/store.ts";
import { runTransactional } from "../../src/outbox/transactional.ts";
import { noMetrics } from "../../src/telemetry/metrics.ts";
import { createTestDatabase } from "../support/database.ts";
import {
  countRows,
  drained,
  enqueueNumbers,
  eventually,
  expireLeases,
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

beforeAll(async () => {
  database = await createTestDatabase();
  db = database.db;
  await db.query("create table effect (number int not null)");
});
beforeEach(async () => {
  await freshOutbox(db);
  await db.query("truncate effect");
});
afterEach(stopAll);
afterAll(() => database.drop());

/** Writes down each number, then answers with the verdict for it; throws what it is told to. */
const writing = (
  verdictOf: (number: number, attempts: number) => Verdict | Promise<Verdict> = () => ({ kind: "done" }),
): TransactionalHandler => ({
  inTransaction: async (message, tx) => {
    await tx.query("insert into effect values ($1)", [numberOf(message)]);
    return verdictOf(numberOf(message), message.attempts);
  },
});

const effects = async (): Promise<number[]> =>
  (await db.query<{ number: number }>("select number from effect")).rows.map(({ number }) => number);

const numbers = [1, 2, 3, 4, 5];

describe("transactional handlers (outbox-engine.md, Handlers)", () => {
  it("write each effect once, in order, together with the acknowledgement", async () => {
    const outbox = await outboxOf();
    await enqueueNumbers(outbox, db, tenantOf(0), numbers);
    await outbox.start(serving({ usage: writing() }));
    await drained(db);
    expect(await effects()).toEqual(numbers);
  });

  it("commit what was finished before a failure and undo the failing message alone", async () => {
    const outbox = await outboxOf();
    const seen: number[][] = [];
    await enqueueNumbers(outbox, db, tenantOf(0), numbers);
    await outbox.start(
      serving({
        usage: writing(async (number, attempts) => {
          if (number !== 3 || attempts > 2) return { kind: "done" };
          seen.push(await effects());
          throw new Error("down");
        }),
      }),
    );
    await drained(db);
    // Nothing is visible while the first batch runs; by the second attempt its prefix is.
    expect(seen).toEqual([[], [1, 2]]);
    expect(await effects()).toEqual(numbers);
  });

  it("go on after a statement that failed, which the savepoint undoes", async () => {
    const outbox = await outboxOf();
    await enqueueNumbers(outbox, db, tenantOf(0), [1]);
    await enqueueNumbers(outbox, db, tenantOf(0), [2]);
    await outbox.start(
      serving({
        usage: {
          inTransaction: async (message, tx) => {
            const number = numberOf(message);
            await tx.query("insert into effect values ($1)", [number]);
            if (number === 1 && message.attempts === 1) await tx.query("select 1 / 0");
            return { kind: "done" };
          },
        },
      }),
    );
    await drained(db);
    expect(await effects()).toEqual([2, 1]);
  });

  it("leave nothing of a rejected message but its dead letter", async () => {
    const outbox = await outboxOf();
    await enqueueNumbers(outbox, db, tenantOf(0), numbers);
    await outbox.start(
      serving({
        usage: writing((number) => (number === 2 ? { kind: "reject", reason: "bad" } : { kind: "done" })),
      }),
    );
    await drained(db);
    expect(await effects()).toEqual([1, 3, 4, 5]);
    expect(await countRows(db, "outbox_dead")).toBe(1);
  });

  it("find a message that spoils the whole transaction, and deliver the others", async () => {
    const outbox = await outboxOf();
    await enqueueNumbers(outbox, db, tenantOf(0), [1]);
    await enqueueNumbers(outbox, db, tenantOf(0), [2]);
    const spoiled = signal();
    await outbox.start(
      serving({
        usage: {
          inTransaction: async (message, tx) => {
            await tx.query("insert into effect values ($1)", [numberOf(message)]);
            if (numberOf(message) === 1) {
              tx.doom(new Error("must not commit"));
              if (message.attempts > 1) spoiled.give();
            }
            return { kind: "done" };
          },
        },
      }),
    );
    await spoiled.given;
    await eventually(async () => (await countRows(db, "outbox_message")) === 1);
    expect(await effects()).toEqual([2]);
  });

  it("undo everything when the connection breaks, and write it once at the next delivery", async () => {
    const outbox = await outboxOf();
    await enqueueNumbers(outbox, db, tenantOf(0), numbers);
    let cut = false;
    await outbox.start(
      serving({
        usage: {
          inTransaction: async (message, tx) => {
            await tx.query("insert into effect values ($1)", [numberOf(message)]);
            if (numberOf(message) === 4 && !cut) {
              cut = true;
              const { rows } = await tx.query<{ pid: number }>("select pg_backend_pid() as pid");
              await db.query("select pg_terminate_backend($1)", [rows[0]?.pid]);
            }
            return { kind: "done" };
          },
        },
      }),
    );
    await drained(db);
    expect(await effects()).toEqual(numbers);
  });

  it("do nothing under a lease that was lost before they began (O7)", async () => {
    const outbox = await outboxOf();
    await enqueueNumbers(outbox, db, tenantOf(0), numbers);
    const { usage: settings } = queueSettings(testConfig);
    const handler = writing();
    const take = async (): Promise<Held> => {
      const token = randomUUID();
      const request = { settings, partitions: 16, batch: 10, worker: "test" };
      const messages = await claim(db, [request], token);
      const claimedAt = performance.now();
      const queue = { settings, handler, worker: "test" };
      const partitionId = messages[0]?.partitionId ?? 0;
      return {
        partitionId,
        token,
        queue,
        messages,
        claimedAt,
        keptSince: claimedAt,
        leasedAt: claimedAt,
        full: false,
        verdicts: [],
      };
    };
    const run = (held: Held) =>
      runTransactional(held, handler, {
        db,
        metrics: noMetrics,
        limits: createLimits(10),
        stopping: new AbortController().signal,
        settlementOf: (verdicts) =>
          settlementOf(held, verdicts, { policy: "park_key", maxAttempts: 5, backoff: () => 1_000 }),
      });
    const lost = await take();
    await expireLeases(db);
    const current = await take();
    expect(await run(lost)).toEqual({ kind: "lost" });
    expect(await effects()).toEqual([]);
    expect((await run(current)).kind).toBe("committed");
    // One message, as its head had been claimed before without an answer.
    expect(await effects()).toEqual([1]);
  });

  it("keep their partition from being taken over while they run, even past their lease", async () => {
    const queues = { override: { usage: { leaseMs: 60, headroomMs: 10 } } };
    const one = await outboxOf({ instanceId: "one", queues });
    await enqueueNumbers(one, db, tenantOf(0), [1]);
    const [began, release] = [signal(), signal()];
    const handler = writing(async () => {
      began.give();
      await release.given;
      return { kind: "done" };
    });
    await one.start(serving({ usage: handler }));
    await began.given;
    let passes = 0;
    const other = await outboxOf({
      instanceId: "other",
      queues,
      onPass: () => {
        passes += 1;
      },
    });
    await other.start(serving({ usage: handler }));
    const before = passes;
    await eventually(async () => {
      const { rows } = await db.query("select from outbox_partition where lease_until < now()");
      return rows.length === 1 && passes > before + 2;
    });
    release.give();
    await drained(db);
    expect(await effects()).toEqual([1]);
  });
});
