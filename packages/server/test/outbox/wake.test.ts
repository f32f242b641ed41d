import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it, vi } from "vitest";
import { DirectConnection } from "../../src/db/direct.ts";
import type { Db } from "../../src/db/pool.ts";
import { inTransaction } from "../../src/db/tx.ts";
import { createGate, createThrottle } from "../../src/outbox/wake.ts";
import { createTestDatabase } from "../support/database.ts";
import {
  enqueueNumbers,
  eventually,
  freshOutbox,
  numbered,
  ownOutboxes,
  recorder,
  serving,
  signal,
  tenantOf,
} from "./support.ts";

describe("gate (outbox.md §7)", () => {
  it("turns ten calls in a tick into one pass", async () => {
    const gate = createGate();
    let passes = 0;
    const loop = (async () => {
      while (await gate.wait(10_000)) {
        passes += 1;
        if (passes === 2) return;
      }
    })();
    for (let call = 0; call < 10; call += 1) gate.raise();
    await vi.waitFor(() => expect(passes).toBe(1));
    gate.raise();
    await loop;
    expect(passes).toBe(2);
  });

  it("remembers a call made during a pass", async () => {
    const gate = createGate();
    gate.raise();
    expect(await gate.wait(10_000)).toBe(true);
    gate.raise();
    expect(await gate.wait(10_000)).toBe(true);
    expect(await gate.wait(0)).toBe(false);
  });
});

describe("throttle of notifications", () => {
  it("sends at once, then one trailing call for all that came meanwhile", () => {
    vi.useFakeTimers();
    try {
      let sent = 0;
      const throttle = createThrottle(
        () => {
          sent += 1;
        },
        () => 2,
      );
      for (let call = 0; call < 5; call += 1) throttle.call();
      expect(sent).toBe(1);
      vi.advanceTimersByTime(2);
      expect(sent).toBe(2);
      vi.advanceTimersByTime(20);
      expect(sent).toBe(2);
      throttle.call();
      expect(sent).toBe(3);
      throttle.call();
      throttle.stop();
      vi.advanceTimersByTime(20);
      expect(sent).toBe(3);
    } finally {
      vi.useRealTimers();
    }
  });
});

describe("wake-up (outbox.md §7)", () => {
  let database: Awaited<ReturnType<typeof createTestDatabase>>;
  let db: Db;
  const { outboxOf, stopAll } = ownOutboxes(() => db);
  beforeAll(async () => {
    database = await createTestDatabase();
    db = database.db;
  });
  beforeEach(() => freshOutbox(db));
  afterEach(stopAll);
  afterAll(() => database.drop());

  const slowPoll = { config: { poll_interval_ms: 60_000, notify: true } };

  it("startup delivers what waits without any flush", async () => {
    const outbox = await outboxOf(slowPoll);
    await inTransaction(db, (tx) => outbox.enqueuer.enqueueUsageEvent(tx, numbered(tenantOf(0), 1)));
    const record = recorder();
    await outbox.start(serving({ usage: record.handler }));
    await record.until((all) => all.length === 1);
  });

  it("flush wakes the worker of the same process at once", async () => {
    const outbox = await outboxOf(slowPoll);
    const record = recorder();
    await outbox.start(serving({ usage: record.handler }));
    await enqueueNumbers(outbox, db, tenantOf(0), [1]);
    await record.until((all) => all.length === 1);
  });

  it("a notification wakes the worker of another process", async () => {
    const directs = [
      new DirectConnection({ url: database.url }),
      new DirectConnection({ url: database.url }),
    ];
    const [near, far] = directs;
    if (near === undefined || far === undefined) throw new Error("no connection");
    await Promise.all(directs.map((direct) => direct.start()));
    const producer = await outboxOf({ ...slowPoll, instanceId: "producer", direct: near });
    const worker = await outboxOf({ ...slowPoll, instanceId: "worker", direct: far });
    const record = recorder();
    await worker.start(serving({ usage: record.handler }));
    await enqueueNumbers(producer, db, tenantOf(0), [1]);
    await record.until((all) => all.length === 1);
    await stopAll();
    await Promise.all(directs.map((direct) => direct.stop()));
  });

  it("a lost wake-up costs one poll", async () => {
    const outbox = await outboxOf();
    const record = recorder();
    await outbox.start(serving({ usage: record.handler }));
    await inTransaction(db, (tx) => outbox.enqueuer.enqueueUsageEvent(tx, numbered(tenantOf(0), 1)));
    await record.until((all) => all.length === 1);
  });

  it("an idle worker only polls", async () => {
    let passes = 0;
    const passed = signal();
    const outbox = await outboxOf({
      config: { poll_interval_ms: 60_000 },
      onPass: () => {
        passes += 1;
        passed.give();
      },
    });
    await outbox.start(serving({ usage: recorder().handler }));
    await passed.given;
    // A query on the same database takes far longer than a busy loop would need for a second pass.
    for (let round = 0; round < 20; round += 1) await db.query("select pg_sleep(0.002)");
    expect(passes).toBe(1);
  });

  it("survives a database that goes while it is asked, and loses nothing", async () => {
    const outbox = await outboxOf({ config: { poll_interval_ms: 60_000 } });
    const record = recorder();
    await outbox.start(serving({ usage: record.handler }));
    // The claim waits at the table, and its connection ends there.
    const lock = await db.connect();
    await lock.query("begin");
    await lock.query("lock table outbox_partition in access exclusive mode");
    await inTransaction(db, (tx) => outbox.enqueuer.enqueueUsageEvent(tx, numbered(tenantOf(0), 1)));
    outbox.flush();
    await eventually(async () => {
      // Of this database alone: others on the server belong to other test files.
      const { rows } = await lock.query(`
        select pg_terminate_backend(pid)
        from pg_locks
        where not granted
          and database = (select oid from pg_database where datname = current_database())`);
      return rows.length > 0;
    });
    await lock.query("commit");
    lock.release();
    await record.until((all) => all.length === 1);
  });

  it("survives the loss of all its connections", async () => {
    let passes = 0;
    const outbox = await outboxOf({
      onPass: () => {
        passes += 1;
      },
    });
    const record = recorder();
    await outbox.start(serving({ usage: record.handler }));
    await db.query(`
      select pg_terminate_backend(pid)
      from pg_stat_activity
      where datname = current_database()
        and pid <> pg_backend_pid()`);
    // By then the pool has heard of its dead connections.
    const terminated = passes;
    await eventually(async () => passes > terminated + 2);
    await enqueueNumbers(outbox, db, tenantOf(0), [1]);
    await record.until((all) => all.length > 0);
  });
});
