import { afterAll, beforeAll, beforeEach, describe, expect, it } from "vitest";
import type { Db } from "../../src/db/pool.ts";
import { inTransaction } from "../../src/db/tx.ts";
import type { Verdict } from "../../src/outbox/message.ts";
import { createLogger, type Logger } from "../../src/telemetry/log.ts";
import { createMetrics, type Metrics } from "../../src/telemetry/metrics.ts";
import { usagePluginHandler } from "../../src/usage/publish.ts";
import { createTestDatabase } from "../support/database.ts";
import {
  drained,
  eventually,
  expireLeases,
  freshOutbox,
  numbered,
  ownOutboxes,
  recorder,
  serving,
  signal,
  tenantOf,
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

interface Line extends Record<string, unknown> {
  readonly level: string;
  readonly msg: string;
}

/** The real log and metrics of a process, kept. */
const telemetry = () => {
  const text: string[] = [];
  const base = { version: "1", instance_id: "test", role: "all" };
  const logger: Logger = createLogger({ level: "debug", format: "json" }, base, {
    write: (line) => text.push(line),
  });
  const metrics: Metrics = createMetrics("t");
  return {
    logger,
    metrics,
    text,
    lines: (msg: string): Line[] => text.map((line) => JSON.parse(line)).filter((line) => line.msg === msg),
    /** The value of a series of the exposition text; undefined when it was never set. */
    value: async (series: string): Promise<number | undefined> => {
      const line = (await metrics.render()).split("\n").find((one) => one.startsWith(`${series} `));
      return line === undefined ? undefined : Number(line.slice(series.length + 1));
    },
  };
};

const planted = "planted-model";
const tenant = tenantOf(0);

/** Commits one event with planted text in its payload per number, in one transaction. */
const enqueue = async (outbox: Awaited<ReturnType<typeof outboxOf>>, numbers: readonly number[]) => {
  await inTransaction(db, (tx) =>
    outbox.enqueuer.enqueueMany(
      tx,
      numbers.map((number) => ({
        kind: "usage",
        event: { ...numbered(tenant, number), effective_model: planted },
      })),
    ),
  );
  outbox.flush();
};

describe("log of the outbox (outbox.md §16)", () => {
  it("connects a turn with the delivery of its event by the message id", async () => {
    const { logger, lines } = telemetry();
    const outbox = await outboxOf({ logger });
    await outbox.start(serving({ usage: recorder().handler }));
    await enqueue(outbox, [1]);
    await drained(db);
    await stopAll();
    const [enqueued] = lines("outbox event enqueued");
    expect(enqueued).toMatchObject({
      level: "info",
      kind: "usage",
      queue: "usage",
      partition_id: expect.any(Number),
      tenant_id: tenant,
      turn_id: expect.any(String),
      request_id: expect.any(String),
      processing_stage: "outbox",
    });
    expect(lines("outbox messages delivered")).toMatchObject([
      {
        level: "info",
        worker: expect.stringMatching(/^test:usage:[A-Z0-9]{6}$/),
        message_ids: [enqueued?.message_id],
      },
    ]);
  });

  it("names every message that was delivered, however large the batch", async () => {
    const { logger, lines } = telemetry();
    const outbox = await outboxOf({ logger, config: { batch_size: 100 } });
    await enqueue(
      outbox,
      Array.from({ length: 100 }, (_, at) => at),
    );
    await outbox.start(serving({ usage: recorder().handler }));
    await drained(db);
    await stopAll();
    const delivered = lines("outbox messages delivered").flatMap((line) => line.message_ids);
    expect(new Set(delivered)).toEqual(
      new Set(lines("outbox event enqueued").map((line) => line.message_id)),
    );
  });

  it("has one line per failure, of its level, and no payload text in any line", async () => {
    const { logger, lines, text } = telemetry();
    const outbox = await outboxOf({ logger });
    let failures = 1;
    await enqueue(outbox, [1, 2]);
    await db.query(
      `insert into outbox_message (partition_id, tenant_id, order_key, kind, payload)
       select id, $1, $1, 'usage', 'planted, not JSON' from outbox_partition where queue = 'usage' and no = 0`,
      [tenant],
    );
    await outbox.start(
      serving({
        usage: usagePluginHandler(() => ({
          publishUsage: async () => {
            failures -= 1;
            if (failures >= 0) throw new Error("down");
          },
        })),
      }),
    );
    await drained(db);
    await stopAll();
    expect(lines("outbox message will be tried again")).toMatchObject([
      { level: "warn", kind: "usage", tenant_id: tenant, attempts: 1, error: "down" },
    ]);
    expect(lines("outbox message became a dead letter")).toMatchObject([
      { level: "error", kind: "usage", tenant_id: tenant, reason: "deserialization failed: not JSON" },
    ]);
    expect(text.length).toBeGreaterThan(4);
    expect(text.join("")).not.toContain("planted");
  });
});

describe("metrics of the outbox (ops.md §5)", () => {
  it("count what became of the messages", async () => {
    const { metrics, value } = telemetry();
    const outbox = await outboxOf({ metrics });
    await enqueue(outbox, [1, 2, 3]);
    const verdictOf = (number: number, attempts: number): Verdict => {
      if (number === 1 && attempts === 1) return { kind: "retry", error: "down", afterMs: 1 };
      return number === 2 ? { kind: "reject", reason: "bad" } : { kind: "done" };
    };
    const { handler } = recorder((_message, { number, attempts }) => verdictOf(number, attempts));
    await outbox.start(serving({ usage: handler }));
    await drained(db);
    await stopAll();
    const of = (name: string, labels = ""): Promise<number | undefined> =>
      value(`t_${name}{kind="usage"${labels}}`);
    expect(await of("outbox_enqueue_total", ',result="ok"')).toBe(3);
    expect(await of("outbox_handler_total", ',result="success"')).toBe(2);
    expect(await of("outbox_handler_total", ',result="retry"')).toBe(1);
    expect(await of("outbox_handler_total", ',result="reject"')).toBe(1);
    expect(await of("outbox_acknowledged_total")).toBe(3);
    expect(await of("outbox_parked_total")).toBe(1);
    expect(await of("outbox_lease_lost_total")).toBe(0);
    expect(await of("outbox_delivery_latency_ms_count")).toBe(2);
  });

  it("count a lost lease, and nothing as delivered by who lost it", async () => {
    const { metrics, value } = telemetry();
    const outbox = await outboxOf({ metrics, config: { poll_interval_ms: 60_000 } });
    const entered = signal();
    const release = signal();
    await outbox.start(
      serving({
        usage: async (messages) => {
          entered.give();
          await release.given;
          return messages.map((): Verdict => ({ kind: "done" }));
        },
      }),
    );
    await enqueue(outbox, [1]);
    await entered.given;
    await expireLeases(db);
    const taker = await outboxOf({ instanceId: "taker" });
    await taker.start(serving({ usage: recorder().handler }));
    await drained(db);
    release.give();
    await eventually(async () => (await value('t_outbox_lease_lost_total{kind="usage"}')) === 1);
    expect(await value('t_outbox_acknowledged_total{kind="usage"}')).toBe(0);
  });

  it("show backlog, dead letters and their ages", async () => {
    const { metrics, value } = telemetry();
    const outbox = await outboxOf({ metrics });
    await enqueue(outbox, [1, 2, 3]);
    await db.query("update outbox_message set created_at = now() - interval '10 minutes'");
    await db.query(`
      insert into outbox_dead (
        queue, partition_id, message_id, tenant_id, order_key, kind, payload, created_at, attempts,
        first_failed_at, last_failed_at, error, fingerprint, status, completed_at
      )
      select
        'usage', 1, gen_random_uuid(), gen_random_uuid(), gen_random_uuid(), 'usage', '{}',
        now() - interval '2 days', 1, now() - interval '1 day', now() - interval '1 hour', 'bad', 'f', status,
        case when status = 'pending' then null else now() end
      from unnest(array['pending', 'pending', 'discarded']) as status`);
    await outbox.start(serving({ audit: recorder().handler }));
    const of = (name: string, kind = "usage"): Promise<number | undefined> =>
      value(`t_outbox_${name}{kind="${kind}"}`);
    await eventually(async () => (await of("backlog")) === 3);
    expect(await of("oldest_pending_age_seconds")).toBeCloseTo(600, -1);
    expect(await of("dead_letter_backlog")).toBe(2);
    // Since it became a dead letter, not since it was written or failed first.
    expect(await of("dead_letter_oldest_age_seconds")).toBeCloseTo(3_600, -1);
    for (const name of ["backlog", "oldest_pending_age_seconds", "dead_letter_backlog"]) {
      expect(await of(name, "audit")).toBe(0);
    }
  });
});
