import { afterAll, beforeAll, describe, expect, it } from "vitest";
import type { Db } from "../../src/db/pool.ts";
import { inTransaction, type Tx } from "../../src/db/tx.ts";
import { type OutboxEnqueuer, OutboxError } from "../../src/outbox/enqueuer.ts";
import type { OutboxEvent, UsageEvent } from "../../src/outbox/events.ts";
import { createOutbox } from "../../src/outbox/outbox.ts";
import { queueSettings } from "../../src/outbox/queue.ts";
import { readOutboxStatus } from "../../src/outbox/status.ts";
import { noLogger } from "../../src/telemetry/log.ts";
import { noMetrics } from "../../src/telemetry/metrics.ts";
import { createTestDatabase } from "../support/database.ts";
import {
  countRows,
  enqueueNumbers,
  numbered,
  recorder,
  registeredOutbox,
  serving,
  tenantOf,
  testConfig,
} from "./support.ts";

let database: Awaited<ReturnType<typeof createTestDatabase>>;
let db: Db;
let enqueuer: OutboxEnqueuer;

beforeAll(async () => {
  database = await createTestDatabase();
  db = database.db;
  enqueuer = (await registeredOutbox(db)).enqueuer;
});
afterAll(() => database.drop());

const usage = (event: UsageEvent): OutboxEvent => ({ kind: "usage", event });

/** The failure of an enqueue and the statements the transaction had issued by then. */
const refused = async (events: readonly OutboxEvent[]): Promise<{ reason: unknown; statements: number }> => {
  let statements = 0;
  const reason = await inTransaction(db, (tx) => {
    const query = tx.query.bind(tx);
    const counted: typeof tx.query = (statement, values) => {
      statements += 1;
      return query(statement, values);
    };
    return enqueuer.enqueueMany(Object.assign(tx, { query: counted }), events);
  }).catch((error: unknown) => (error instanceof OutboxError ? error.reason : error));
  return { reason, statements };
};

describe("enqueue (outbox.md §2, §5)", () => {
  it("shares one round trip with other statements and with the commit", async () => {
    let roundTrips = 0;
    db.onRoundTrip = () => {
      roundTrips += 1;
    };
    await inTransaction(db, async (tx) => {
      const tenant = tenantOf(0);
      const answers = [
        tx.query("select 1"),
        enqueuer.enqueueMany(tx, [usage(numbered(tenant, 1)), usage(numbered(tenant, 2))]),
      ];
      tx.commitNow();
      await Promise.all(answers);
    });
    db.onRoundTrip = undefined;
    expect(roundTrips).toBe(1);
  });

  it("takes the whole transaction down when an event is refused, though the commit is sent already", async () => {
    const before = await countRows(db, "outbox_message");
    const event = { ...numbered(tenantOf(0), 1), error_code: "x".repeat(70_000) };
    const failing = inTransaction(db, async (tx) => {
      const enqueued = Promise.all([
        enqueuer.enqueueUsageEvent(tx, numbered(tenantOf(0), 1)),
        enqueuer.enqueueUsageEvent(tx, event),
      ]);
      tx.commitNow();
      await enqueued;
    });
    await expect(failing).rejects.toMatchObject({ reason: "payload_too_large" });
    expect(await countRows(db, "outbox_message")).toBe(before);
  });

  it("is told of in log and metrics once it is committed, and not otherwise", async () => {
    const told: string[] = [];
    const outbox = await registeredOutbox(db, {
      logger: { ...noLogger, info: (_fields, message) => told.push(message), child: () => noLogger },
      metrics: { ...noMetrics, count: (name) => told.push(name) },
    });
    const enqueue = (tx: Tx) => outbox.enqueuer.enqueueUsageEvent(tx, numbered(tenantOf(0), 1));
    const undone = inTransaction(db, async (tx) => {
      await enqueue(tx);
      throw new Error("undone");
    });
    await expect(undone).rejects.toThrow("undone");
    expect(told).toEqual([]);
    await inTransaction(db, async (tx) => {
      const enqueued = enqueue(tx);
      tx.commitNow();
      await enqueued;
    });
    expect(told).toEqual(["outbox_enqueue", "outbox event enqueued"]);
  });

  it("writes more events than fit one statement, in order", async () => {
    const tenant = tenantOf(1);
    const numbers = Array.from({ length: 230 }, (_, at) => at);
    await inTransaction(db, (tx) =>
      enqueuer.enqueueMany(
        tx,
        numbers.map((n) => usage(numbered(tenant, n))),
      ),
    );
    const { rows } = await db.query<{ number: number }>(
      "select (payload::jsonb ->> 'web_search_calls')::int as number from outbox_message where tenant_id = $1 order by id",
      [tenant],
    );
    expect(rows.map(({ number }) => number)).toEqual(numbers);
  });

  it("refuses a batch with one bad event before any statement", async () => {
    const good = numbered(tenantOf(0), 1);
    const before = await countRows(db, "outbox_message");
    const oversized = { ...good, error_code: "x".repeat(65_536) };
    expect(await refused([usage(good), usage(oversized)])).toEqual({
      reason: "payload_too_large",
      statements: 0,
    });
    expect(await countRows(db, "outbox_message")).toBe(before);
  });

  it("takes a payload of exactly 65,536 bytes", async () => {
    const event = { ...numbered(tenantOf(0), 1), error_code: "" };
    const room = 65_536 - Buffer.byteLength(JSON.stringify(event));
    const full = { ...event, error_code: "é".repeat(Math.floor(room / 2)) + "x".repeat(room % 2) };
    expect((await refused([usage(full)])).statements).toBe(1);
    const over = { ...full, error_code: `${full.error_code}x` };
    expect(await refused([usage(over)])).toEqual({ reason: "payload_too_large", statements: 0 });
  });

  it.each([
    ["a dedupe key of another tenant", { dedupe_key: `${"0".repeat(32)}/a/b` }],
    ["an empty dedupe key", { dedupe_key: "" }],
    ["an amount beyond 2^53", { actual_credits_micro: 2 ** 53 }],
    ["a fraction", { actual_credits_micro: 0.5 }],
    ["not a number", { actual_credits_micro: Number.NaN }],
  ])("refuses %s before any statement", async (_name, change) => {
    expect(await refused([usage({ ...numbered(tenantOf(0), 1), ...change })])).toEqual({
      reason: "invalid_payload",
      statements: 0,
    });
  });

  it("writes an inconsistent usage event all the same, and says so", async () => {
    const told: string[] = [];
    const outbox = await registeredOutbox(db, {
      logger: { ...noLogger, critical: (_fields, message) => told.push(message), child: () => noLogger },
    });
    const before = await countRows(db, "outbox_message");
    const event: UsageEvent = { ...numbered(tenantOf(0), 1), billing_outcome: "aborted" };
    await inTransaction(db, (tx) => outbox.enqueuer.enqueueUsageEvent(tx, event));
    expect(await countRows(db, "outbox_message")).toBe(before + 1);
    expect(told).toEqual(["usage event with an impossible outcome; written all the same"]);
  });

  it("fails before registration, and flush does nothing", async () => {
    const outbox = createOutbox({ db, config: testConfig, instanceId: "early" });
    outbox.flush();
    const early = inTransaction(db, (tx) => outbox.enqueuer.enqueueUsageEvent(tx, numbered(tenantOf(0), 1)));
    await expect(early).rejects.toMatchObject({ reason: "outbox_not_started" });
  });

  it("leaves no unhandled rejection when its caller fails first", async () => {
    const failing = inTransaction(db, async (tx) => {
      const first = tx.query("select 1 / 0");
      const second = enqueuer.enqueueUsageEvent(tx, numbered(tenantOf(0), 1));
      await first;
      await second;
    });
    await expect(failing).rejects.toMatchObject({ code: "22012" });
  });
});

describe("registration (outbox.md §3)", () => {
  it("is idempotent and safe when many processes start together", async () => {
    const fresh = await createTestDatabase();
    try {
      await Promise.all(Array.from({ length: 6 }, () => registeredOutbox(fresh.db)));
      const { rows } = await fresh.db.query(
        "select queue, count(*)::int as n from outbox_partition group by 1",
      );
      expect(rows).toHaveLength(6);
      expect(new Set(rows.map(({ n }) => n))).toEqual(new Set([4]));
    } finally {
      await fresh.drop();
    }
  });

  it("refuses a count other than the stored one, in either direction and when started together", async () => {
    await expect(registeredOutbox(db, { config: { num_partitions: 8 } })).rejects.toMatchObject({
      reason: "partition_count_mismatch",
    });
    const fresh = await createTestDatabase();
    try {
      const starts = await Promise.allSettled(
        [2, 8].map((count) => registeredOutbox(fresh.db, { config: { num_partitions: count } })),
      );
      expect(starts.filter(({ status }) => status === "rejected")).toHaveLength(1);
    } finally {
      await fresh.drop();
    }
  });

  it("refuses another name for a queue while messages wait under the old one (O6)", async () => {
    const fresh = await createTestDatabase();
    try {
      const before = await registeredOutbox(fresh.db);
      await enqueueNumbers(before, fresh.db, tenantOf(0), [1]);
      const renamed = { config: { queue_name: "usage-v2" } };
      await expect(registeredOutbox(fresh.db, renamed)).rejects.toMatchObject({ reason: "unserved_queue" });
      const names = Object.values(queueSettings({ ...testConfig, queue_name: "usage-v2" }));
      const { queues } = await readOutboxStatus(fresh.db, names, { withOthers: true });
      expect(queues.filter(({ backlog }) => backlog > 0)).toMatchObject([
        { queue: testConfig.queue_name, kind: null, backlog: 1 },
      ]);
      const seen = recorder();
      await before.start(serving({ usage: seen.handler }));
      await seen.until((all) => all.length === 1);
      await before.stop();
      await registeredOutbox(fresh.db, renamed);
    } finally {
      await fresh.drop();
    }
  });
});
