import { randomUUID } from "node:crypto";
import { afterAll, beforeAll, beforeEach, describe, expect, it } from "vitest";
import type { Db } from "../../src/db/pool.ts";
import { inTransaction } from "../../src/db/tx.ts";
import type { QueueHandler } from "../../src/outbox/message.ts";
import { queueSettings } from "../../src/outbox/queue.ts";
import { perMessage } from "../../src/outbox/run.ts";
import type { Settlement } from "../../src/outbox/settle.ts";
import { claim, settle } from "../../src/outbox/store.ts";
import { noMetrics } from "../../src/telemetry/metrics.ts";
import { createTestDatabase } from "../support/database.ts";
import {
  countRows,
  drained,
  enqueueNumbers,
  eventually,
  expireLeases,
  freshOutbox,
  numbered,
  numberOf,
  ownOutboxes,
  recorder,
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
});
beforeEach(async () => {
  await stopAll();
  await freshOutbox(db);
});
afterAll(async () => {
  await stopAll();
  await database.drop();
});

const tenant = tenantOf(0);
const { usage } = queueSettings(testConfig);
const claimUsage = (token: string, leaseMs = 30_000) =>
  claim(db, [{ settings: { ...usage, leaseMs }, partitions: 16, batch: 10, worker: "test" }], token);

const attemptsOf = async (number: number): Promise<number | undefined> =>
  (
    await db.query<{ head_attempts: number }>(
      "select head_attempts from outbox_partition where queue = 'usage' and no = $1",
      [number],
    )
  ).rows[0]?.head_attempts;

const settlement = (partitionId: number, token: string, change: Partial<Settlement>): Settlement => ({
  partitionId,
  token,
  done: [],
  dead: [],
  parked: [],
  resumed: [],
  delayMs: null,
  head: null,
  error: null,
  keep: false,
  ...change,
});

describe("claim (outbox-engine.md)", () => {
  it("hands a leased partition to nobody else", async () => {
    const outbox = await outboxOf();
    await enqueueNumbers(outbox, db, tenantOf(0), [1, 2]);
    const claims = await Promise.all(Array.from({ length: 5 }, () => claimUsage(randomUUID())));
    expect(claims.map((messages) => messages.length).sort()).toEqual([0, 0, 0, 0, 2]);
  });

  it("counts an attempt of the head per claim, none of idle looks", async () => {
    const outbox = await outboxOf();
    await enqueueNumbers(outbox, db, tenantOf(0), [1]);
    await claimUsage(randomUUID());
    await claimUsage(randomUUID());
    await claimUsage(randomUUID());
    expect(await attemptsOf(0)).toBe(1);
    expect(await attemptsOf(1)).toBe(0);
    await expireLeases(db);
    expect((await claimUsage(randomUUID()))[0]?.attempts).toBe(2);
  });

  it("prefers the partitions that waited longest", async () => {
    const outbox = await outboxOf();
    for (const partition of [0, 1, 2]) await enqueueNumbers(outbox, db, tenantOf(partition), [partition]);
    const served: number[] = [];
    for (let turn = 0; turn < 3; turn += 1) {
      const token = randomUUID();
      const [message] = await claim(
        db,
        [{ settings: usage, partitions: 1, batch: 1, worker: "test" }],
        token,
      );
      if (message === undefined) throw new Error("nothing claimed");
      served.push(message.partitionId);
      await settle(db, [settlement(message.partitionId, token, {})]);
    }
    expect(new Set(served).size).toBe(3);
  });

  it("takes a kept lease over first, which is free for nobody else", async () => {
    const outbox = await outboxOf();
    for (const partition of [0, 1]) await enqueueNumbers(outbox, db, tenantOf(partition), [partition, 5]);
    const request = { settings: usage, partitions: 1, batch: 1, worker: "test" };
    const token = randomUUID();
    const [first] = await claim(db, [request], token);
    if (first === undefined) throw new Error("nothing claimed");
    const keptToken = randomUUID();
    const { partitionId } = first;
    await settle(db, [settlement(partitionId, token, { done: [first.id], keep: true })], keptToken);
    const others = await claimUsage(randomUUID());
    expect(others.some((message) => message.partitionId === partitionId)).toBe(false);
    const [next] = await claim(db, [request], randomUUID(), 0n, [{ partitionId, token: keptToken }]);
    expect(next?.partitionId).toBe(partitionId);
  });

  it("frees a kept lease it has no use for", async () => {
    const outbox = await outboxOf();
    await enqueueNumbers(outbox, db, tenantOf(0), [1]);
    const token = randomUUID();
    const [message] = await claimUsage(token);
    if (message === undefined) throw new Error("nothing claimed");
    const { partitionId } = message;
    const keptToken = randomUUID();
    await settle(db, [settlement(partitionId, token, { done: [message.id], keep: true })], keptToken);
    await claim(db, [], randomUUID(), 0n, [{ partitionId, token: keptToken }]);
    await enqueueNumbers(outbox, db, tenantOf(0), [2]);
    expect((await claimUsage(randomUUID())).length).toBe(1);
  });

  it("finds no kept lease where the acknowledgement before it has failed", async () => {
    const outbox = await outboxOf();
    await enqueueNumbers(outbox, db, tenantOf(0), [1]);
    const [message] = await claimUsage(randomUUID());
    if (message === undefined) throw new Error("nothing claimed");
    const kept = { partitionId: message.partitionId, token: randomUUID() };
    expect(
      await claim(db, [{ settings: usage, partitions: 16, batch: 10, worker: "test" }], randomUUID(), 0n, [
        kept,
      ]),
    ).toEqual([]);
  });

  it("serves a process of the version before, which keeps no leases (data.md §7)", async () => {
    const outbox = await outboxOf();
    await enqueueNumbers(outbox, db, tenantOf(0), [1, 2]);
    const token = randomUUID();
    const { rows } = await db.query<{ partition_id: number; id: bigint; attempts: number }>(
      `select * from outbox_claim('{usage}', '{16}', '{1}', '{30000}', '{t}', $1, '{old}', 0)`,
      [token],
    );
    const [first] = rows;
    if (first === undefined) throw new Error("nothing claimed");
    expect(first.attempts).toBe(1);
    const settled = await db.query(
      `select outbox_settle(
         array[$1::int], array[$2::uuid], '{null}', '{null}', '{null}', '{null}', array[$1::int],
         array[$3::bigint], '{}', '{}', '{}', '{}', '{}', '{}', '{}', '{}', '{}', '{}'
       ) as held`,
      [first.partition_id, token, first.id],
    );
    expect(settled.rows).toEqual([{ held: [first.partition_id] }]);
    expect((await claimUsage(randomUUID())).map(numberOf)).toEqual([2]);
  });

  it("serves a process of the version before, which tells no errors of waiting keys (data.md §7)", async () => {
    const outbox = await outboxOf();
    await enqueueNumbers(outbox, db, tenantOf(0), [1]);
    const token = randomUUID();
    const [message] = await claimUsage(token);
    if (message === undefined) throw new Error("nothing claimed");
    const settled = await db.query(
      `select outbox_settle(
         array[$1::int], array[$2::uuid], '{null}', '{null}', '{null}', '{down}', '{}', '{}', '{}', '{}', '{}',
         '{}', array[$1::int], array[$3::uuid], '{60000}', '{1}', '{}', '{}', '{}', null
       ) as held`,
      [message.partitionId, token, message.orderKey],
    );
    expect(settled.rows).toEqual([{ held: [message.partitionId] }]);
    const parked = await db.query(
      "select order_key, attempts, error, since is not null as timed from outbox_parked",
    );
    expect(parked.rows).toEqual([{ order_key: message.orderKey, attempts: 1, error: null, timed: true }]);
  });

  it("refuses any isolation but read committed", async () => {
    const client = await db.connect();
    await client.query("begin isolation level repeatable read");
    const claiming = client.query(
      "select outbox_claim('{}', '{}', '{}', '{}', '{}', gen_random_uuid(), '{}', 0, '{}', '{}')",
    );
    await expect(claiming).rejects.toThrow("read committed");
    await client.query("rollback");
    client.release();
  });
});

describe("a lost lease (outbox.md O7)", () => {
  it("rolls back everything of its partition, dead letters too, and nothing of another", async () => {
    const outbox = await outboxOf();
    await enqueueNumbers(outbox, db, tenantOf(0), [1, 2]);
    await enqueueNumbers(outbox, db, tenantOf(1), [3]);
    const token = randomUUID();
    const claimed = await claimUsage(token);
    const [first, second, third] = claimed;
    if (first === undefined || second === undefined || third === undefined) throw new Error("not claimed");
    await db.query("update outbox_partition set lease_until = now() - interval '1 ms' where id = $1", [
      first.partitionId,
    ]);
    const taken = await claimUsage(randomUUID());
    expect(taken.map(({ id }) => id)).toEqual([first.id, second.id]);
    const stood = await settle(db, [
      settlement(first.partitionId, token, {
        done: [first.id],
        dead: [{ id: second.id, attempts: 1, error: "late" }],
        parked: [{ orderKey: first.orderKey, delayMs: 1_000, attempts: 1, error: "down" }],
      }),
      settlement(third.partitionId, token, { done: [third.id] }),
    ]);
    expect([...stood]).toEqual([third.partitionId]);
    expect(await countRows(db, "outbox_message")).toBe(2);
    expect(await countRows(db, "outbox_dead")).toBe(0);
    expect(await countRows(db, "outbox_parked")).toBe(0);
  });

  it("lets the taker finish; the late worker goes on with other work", async () => {
    const late = await outboxOf({ instanceId: "late" });
    const release = signal();
    const entered = signal();
    await late.start(
      serving({
        usage: async (messages) => {
          entered.give();
          await release.given;
          return messages.map(() => ({ kind: "done" }));
        },
      }),
    );
    await enqueueNumbers(late, db, tenantOf(0), [1]);
    await entered.given;
    await expireLeases(db);
    const taker = await outboxOf({ instanceId: "taker" });
    const { seen, handler, until } = recorder();
    await taker.start(serving({ usage: handler }));
    await until((all) => all.length === 1);
    release.give();
    await drained(db);
    expect(seen[0]?.attempts).toBe(2);
    await enqueueNumbers(late, db, tenantOf(1), [2]);
    await drained(db);
  });
});

describe("a lease that ran out in the process that takes it again (outbox.md O7)", () => {
  it("only counts the answer of the last run", async () => {
    const entered = [signal(), signal()];
    const release = [signal(), signal()];
    const passed = { count: 0, waiting: () => {} };
    const lost: string[] = [];
    const outbox = await outboxOf({
      metrics: { ...noMetrics, count: (name) => lost.push(name) },
      onPass: () => {
        passed.count += 1;
        passed.waiting();
      },
    });
    let runs = 0;
    await outbox.start(
      serving({
        usage: async (messages) => {
          const run = runs;
          runs += 1;
          entered[run]?.give();
          await release[run]?.given;
          return messages.map(() => ({ kind: "done" }));
        },
      }),
    );
    await enqueueNumbers(outbox, db, tenantOf(0), [1]);
    await entered[0]?.given;
    await expireLeases(db);
    await entered[1]?.given;
    release[0]?.give();
    // The late answer would be acknowledged by the next pass.
    const seen = passed.count;
    await new Promise<void>((resolve) => {
      passed.waiting = () => {
        if (passed.count > seen + 2) resolve();
      };
    });
    expect(await countRows(db, "outbox_message")).toBe(1);
    expect(lost.filter((name) => name === "outbox_lease_lost")).toHaveLength(1);
    release[1]?.give();
    await drained(db);
    expect(runs).toBe(2);
  });
});

describe("a handler that hangs", () => {
  it("is told at lease − headroom, and its message is tried again", async () => {
    const outbox = await outboxOf({ queues: { override: { usage: { leaseMs: 300, headroomMs: 200 } } } });
    let runs = 0;
    const aborted: boolean[] = [];
    await outbox.start(
      serving({
        usage: (messages, { signal: cut }) => {
          runs += 1;
          if (runs > 1) return Promise.resolve(messages.map(() => ({ kind: "done" })));
          cut.addEventListener("abort", () => aborted.push(true));
          return new Promise(() => {});
        },
      }),
    );
    await enqueueNumbers(outbox, db, tenantOf(0), [1]);
    await drained(db);
    expect(runs).toBe(2);
    expect(aborted).toEqual([true]);
  });
});

describe("stop (outbox.md §14)", () => {
  it("acknowledges what finished, frees the lease and gives back the attempt of what did not", async () => {
    const outbox = await outboxOf({ stopTimeoutMs: 20 });
    const entered = signal();
    let running = 0;
    await outbox.start(
      serving({
        usage: async (messages, { signal: cut }) => {
          running += 1;
          entered.give();
          await new Promise((resolve) => cut.addEventListener("abort", resolve));
          running -= 1;
          return messages.slice(0, 1).map(() => ({ kind: "done" }));
        },
      }),
    );
    // One transaction, so that both are in one batch.
    await enqueueNumbers(outbox, db, tenantOf(0), []);
    await db.query(
      `insert into outbox_message (partition_id, tenant_id, order_key, kind, payload)
       select p.id, gen_random_uuid(), gen_random_uuid(), 'usage', '{"web_search_calls":1}'
       from outbox_partition p, generate_series(1, 2) where p.queue = 'usage' and p.no = 0`,
    );
    outbox.flush();
    await entered.given;
    await outbox.stop();
    expect(running).toBe(0);
    expect(await countRows(db, "outbox_message")).toBe(1);
    const { rows } = await db.query("select from outbox_partition where lease_token is not null");
    expect(rows).toHaveLength(0);
    const next = await claimUsage(randomUUID());
    expect(next.map(({ attempts }) => attempts)).toEqual([1]);
  });

  it("does not count being cut off as a failure of a handler that throws", async () => {
    const outbox = await outboxOf({ stopTimeoutMs: 20 });
    const entered = signal();
    await outbox.start(
      serving({
        usage: (_messages, { signal: cut }) => {
          entered.give();
          return new Promise((_, reject) => {
            cut.addEventListener("abort", () => reject(new Error("cut off")));
          });
        },
      }),
    );
    await enqueueNumbers(outbox, db, tenantOf(0), [1]);
    await entered.given;
    await outbox.stop();
    expect(await countRows(db, "outbox_parked")).toBe(0);
    expect((await claimUsage(randomUUID())).map(({ attempts }) => attempts)).toEqual([1]);
  });

  it("starts no further message of a batch, and acknowledges the ones before", async () => {
    const outbox = await outboxOf();
    const entered = signal();
    const release = signal();
    const started: number[] = [];
    await inTransaction(db, (tx) =>
      outbox.enqueuer.enqueueMany(
        tx,
        [1, 2, 3].map((number) => ({ kind: "usage", event: numbered(tenant, number) })),
      ),
    );
    await outbox.start(
      serving({
        usage: perMessage(
          async (message) => {
            started.push(numberOf(message));
            entered.give();
            await release.given;
            return { kind: "done" };
          },
          { concurrency: 1, maxMs: 10_000, reserveMs: 500 },
        ),
      }),
    );
    await entered.given;
    const stopped = outbox.stop();
    release.give();
    await stopped;
    expect(started).toEqual([1]);
    const left = await claimUsage(randomUUID());
    expect(left.map((message) => [numberOf(message), message.attempts])).toEqual([
      [2, 1],
      [3, 1],
    ]);
  });

  it("gives back unstarted what a claim under way brought", async () => {
    const outbox = await outboxOf({ config: { poll_interval_ms: 60_000 } });
    const { seen, handler } = recorder();
    await outbox.start(serving({ usage: handler }));
    // The claim waits at the table until the stop has begun.
    const lock = await db.connect();
    await lock.query("begin");
    await lock.query("lock table outbox_partition in access exclusive mode");
    await inTransaction(db, (tx) => outbox.enqueuer.enqueueUsageEvent(tx, numbered(tenant, 1)));
    outbox.flush();
    await eventually(async () => {
      const { rows } = await lock.query(
        "select from pg_locks where not granted and database = (select oid from pg_database where datname = current_database())",
      );
      return rows.length > 0;
    });
    const stopped = outbox.stop();
    await lock.query("commit");
    lock.release();
    await stopped;
    expect(seen).toEqual([]);
    expect((await claimUsage(randomUUID())).map(({ attempts }) => attempts)).toEqual([1]);
  });

  it("gives a running handler time to finish", async () => {
    const outbox = await outboxOf();
    const entered = signal();
    const release = signal();
    await outbox.start(
      serving({
        usage: async (messages) => {
          entered.give();
          await release.given;
          return messages.map(() => ({ kind: "done" }));
        },
      }),
    );
    await enqueueNumbers(outbox, db, tenantOf(0), [1]);
    await entered.given;
    const stopped = outbox.stop();
    release.give();
    await stopped;
    expect(await countRows(db, "outbox_message")).toBe(0);
  });
});

describe("a queue without a handler", () => {
  it("keeps its messages and serves them to whoever comes", async () => {
    const outbox = await outboxOf();
    await outbox.start(serving({ audit: async (messages) => messages.map(() => ({ kind: "done" })) }));
    await enqueueNumbers(outbox, db, tenantOf(0), [1, 2]);
    await outbox.stop();
    expect(await countRows(db, "outbox_message")).toBe(2);
    const { seen, handler } = recorder();
    const later = await outboxOf();
    await later.start(serving({ usage: handler }));
    await eventually(async () => (await countRows(db, "outbox_message")) === 0);
    expect(seen.map(({ number, attempts }) => [number, attempts])).toEqual([
      [1, 1],
      [2, 1],
    ]);
  });
});

describe("a heartbeat (outbox-engine.md, Handlers)", () => {
  it("keeps the lease of work that takes longer than one", async () => {
    const queues = { override: { usage: { leaseMs: 250, headroomMs: 50 } } };
    const one = await outboxOf({ instanceId: "one", queues });
    const other = await outboxOf({ instanceId: "other", queues });
    await enqueueNumbers(one, db, tenant, [1]);
    const runs: { attempts: number | undefined; cutOff: boolean; renewals: number }[] = [];
    const handler: QueueHandler = async (messages, context) => {
      const first = context.deadline;
      let renewals = 0;
      // Twice the lease, in steps a quarter of it long.
      await eventually(async () => {
        if (performance.now() > context.deadline - 150 && (await context.renew())) renewals += 1;
        return performance.now() > first + 500 || context.signal.aborted;
      });
      runs.push({ attempts: messages[0]?.attempts, cutOff: context.signal.aborted, renewals });
      return messages.map(() => ({ kind: "done" }));
    };
    await Promise.all([one, other].map((outbox) => outbox.start(serving({ usage: handler }))));
    await drained(db);
    expect(runs).toEqual([{ attempts: 1, cutOff: false, renewals: expect.any(Number) }]);
    expect(runs[0]?.renewals).toBeGreaterThan(1);
  });

  it("tells a handler that its lease was lost, and stops it", async () => {
    const outbox = await outboxOf();
    await enqueueNumbers(outbox, db, tenant, [1]);
    const [began, lost] = [signal(), signal()];
    const told: { renewed: boolean; cutOff: boolean }[] = [];
    await outbox.start(
      serving({
        usage: async (messages, context) => {
          if (told.length > 0) return messages.map(() => ({ kind: "done" }));
          began.give();
          await lost.given;
          const renewed = await context.renew();
          told.push({ renewed, cutOff: context.signal.aborted });
          return messages.map(() => ({ kind: "done" }));
        },
      }),
    );
    await began.given;
    await db.query(
      "update outbox_partition set lease_token = gen_random_uuid() where lease_token is not null",
    );
    lost.give();
    await eventually(async () => told.length > 0);
    await expireLeases(db);
    await drained(db);
    expect(told).toEqual([{ renewed: false, cutOff: true }]);
  });
});
