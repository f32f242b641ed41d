import { afterAll, beforeAll, beforeEach, describe, expect, it } from "vitest";
import { Db } from "../../src/db/pool.ts";
import { inTransaction } from "../../src/db/tx.ts";
import type { Outbox } from "../../src/outbox/outbox.ts";
import { createTestDatabase } from "../support/database.ts";
import {
  countRows,
  drained,
  enqueueNumbers,
  eventually,
  numbered,
  recorder,
  registeredOutbox,
  serving,
  signal,
  tenantOf,
} from "./support.ts";

let database: Awaited<ReturnType<typeof createTestDatabase>>;
let db: Db;
const started: Outbox[] = [];

const outboxOf = async (change: Parameters<typeof registeredOutbox>[1] = {}): Promise<Outbox> => {
  const outbox = await registeredOutbox(db, change);
  started.push(outbox);
  return outbox;
};

beforeAll(async () => {
  database = await createTestDatabase();
  db = database.db;
});
beforeEach(async () => {
  await Promise.all(started.splice(0).map((outbox) => outbox.stop()));
  await db.query("truncate outbox_message, outbox_dead, outbox_parked");
  await db.query("update outbox_partition set lease_token = null, lease_until = null, not_before = null");
});
afterAll(async () => {
  await Promise.all(started.splice(0).map((outbox) => outbox.stop()));
  await database.drop();
});

describe("outbox invariants (outbox.md §1)", () => {
  it("O1: an event exists if and only if its transaction committed", async () => {
    const outbox = await outboxOf();
    const tenant = tenantOf(0);
    const rolledBack = inTransaction(db, async (tx) => {
      await outbox.enqueuer.enqueueUsageEvent(tx, numbered(tenant, 1));
      throw new Error("business rule");
    });
    await expect(rolledBack).rejects.toThrow("business rule");
    expect(await countRows(db, "outbox_message")).toBe(0);
    const { seen, handler, until } = recorder();
    await outbox.start(serving({ usage: handler }));
    await enqueueNumbers(outbox, db, tenant, [2]);
    await until((all) => all.length > 0);
    expect(seen.map(({ number }) => number)).toEqual([2]);
  });

  it("O2: a failing enqueue takes the business change down with it", async () => {
    const outbox = await outboxOf();
    await db.query("create table if not exists business (id int)");
    const event = { ...numbered(tenantOf(0), 1), error_code: "x".repeat(70_000) };
    const failing = inTransaction(db, async (tx) => {
      await tx.query("insert into business values (1)");
      await outbox.enqueuer.enqueueUsageEvent(tx, event);
    });
    await expect(failing).rejects.toThrow("65536 bytes");
    expect((await db.query("select id from business")).rows).toEqual([]);
  });

  it("O3: a message that was not acknowledged comes again under the same message id", async () => {
    const outbox = await outboxOf();
    const { seen, handler, until } = recorder((_message, { attempts }) =>
      attempts === 1 ? { kind: "retry", error: "down" } : { kind: "done" },
    );
    await outbox.start(serving({ usage: handler }));
    await enqueueNumbers(outbox, db, tenantOf(0), [1]);
    await until((all) => all.length === 2);
    await drained(db);
    expect(new Set(seen.map(({ messageId }) => messageId)).size).toBe(1);
    expect(seen.map(({ attempts }) => attempts)).toEqual([1, 2]);
  });

  it("O4: messages of one transaction keep their order, and one that commits late is not skipped", async () => {
    const outbox = await outboxOf();
    const tenant = tenantOf(1);
    const late = await db.connect();
    await late.query("begin");
    // The smaller id is taken first and committed last.
    await late.query(
      `insert into outbox_message (partition_id, tenant_id, order_key, kind, payload)
       select id, $1, $1, 'usage', $2 from outbox_partition where queue = 'usage' and no = 1`,
      [tenant, JSON.stringify(numbered(tenant, 0))],
    );
    const { seen, handler, until } = recorder();
    await outbox.start(serving({ usage: handler }));
    await inTransaction(db, (tx) =>
      outbox.enqueuer.enqueueMany(
        tx,
        [1, 2, 3].map((number) => ({ kind: "usage", event: numbered(tenant, number) })),
      ),
    );
    outbox.flush();
    await until((all) => all.length === 3);
    await drained(db);
    await late.query("commit");
    late.release();
    await until((all) => all.length === 4);
    expect(seen.map(({ number }) => number)).toEqual([1, 2, 3, 0]);
    await drained(db);
  });

  it("O5: a failing key holds back its own messages and nobody else's", async () => {
    const outbox = await outboxOf();
    const [sick, well] = [tenantOf(2), tenantOf(2)];
    let down = true;
    const { seen, handler, until } = recorder(({ tenantId }) =>
      down && tenantId === sick ? { kind: "retry", error: "down", afterMs: 10 } : { kind: "done" },
    );
    await enqueueNumbers(outbox, db, sick, [1, 2, 3]);
    await enqueueNumbers(outbox, db, well, [1, 2, 3]);
    await outbox.start(serving({ usage: handler }));
    await until((all) => all.filter(({ tenantId }) => tenantId === well).length === 3);
    await until((all) => all.some(({ attempts }) => attempts >= 3));
    down = false;
    await drained(db);
    expect(seen.filter(({ tenantId }) => tenantId === well).map(({ number }) => number)).toEqual([1, 2, 3]);
    const delivered = seen.filter(({ tenantId }) => tenantId === sick).map(({ number }) => number);
    expect(delivered).toEqual([...delivered].sort());
    expect(delivered.filter((number) => number > 1)).toEqual([2, 3]);
  });

  it("O5: in a block queue a failing message holds back its partition, in order", async () => {
    const outbox = await outboxOf({ queues: { override: { usage: { policy: "block" } } } });
    const [first, second] = [tenantOf(2), tenantOf(2)];
    let failures = 3;
    const { seen, handler, until } = recorder(({ tenantId }) => {
      if (tenantId !== first || failures === 0) return { kind: "done" };
      failures -= 1;
      return { kind: "retry", error: "down", afterMs: 10 };
    });
    // Ignores later verdicts of its own batch as well: what was given behind the retry is given again.
    await enqueueNumbers(outbox, db, first, [1]);
    await enqueueNumbers(outbox, db, second, [2, 3]);
    await outbox.start(
      serving({
        usage: async (messages, context) => {
          const head = await handler(messages.slice(0, 1), context);
          return head[0]?.kind === "done" ? [...head, ...(await handler(messages.slice(1), context))] : head;
        },
      }),
    );
    await until((all) => all.length === 6);
    await drained(db);
    expect(seen.map(({ number }) => number)).toEqual([1, 1, 1, 1, 2, 3]);
    expect(seen.map(({ attempts }) => attempts)).toEqual([1, 2, 3, 4, 1, 1]);
  });

  it("O6: a poison message becomes a complete dead letter and blocks nobody", async () => {
    const outbox = await outboxOf();
    const tenant = tenantOf(3);
    const { seen, handler } = recorder((_message, { number }) =>
      number === 2 ? { kind: "reject", reason: "cannot be read" } : { kind: "done" },
    );
    await enqueueNumbers(outbox, db, tenant, [1, 2, 3]);
    await outbox.start(serving({ usage: handler }));
    await drained(db);
    expect(seen.map(({ number }) => number)).toEqual([1, 2, 3]);
    const { rows } = await db.query(`
      select queue, tenant_id, order_key, kind, payload::jsonb ->> 'web_search_calls' as number,
        error, attempts, status, message_id, fingerprint <> '' as fingerprinted
      from outbox_dead`);
    expect(rows).toEqual([
      {
        queue: "usage",
        tenant_id: tenant,
        order_key: tenant,
        kind: "usage",
        number: "2",
        error: "cannot be read",
        attempts: 1,
        status: "pending",
        message_id: seen[1]?.messageId,
        fingerprinted: true,
      },
    ]);
  });

  it("O6: after the last attempt a message becomes a dead letter, and its key goes on", async () => {
    const outbox = await outboxOf({ queues: { override: { usage: { maxAttempts: 3 } } } });
    const { seen, handler } = recorder((_message, { number }) =>
      number === 1 ? { kind: "retry", error: "never", afterMs: 5 } : { kind: "done" },
    );
    await enqueueNumbers(outbox, db, tenantOf(0), [1, 2]);
    await outbox.start(serving({ usage: handler }));
    await drained(db);
    expect(seen.filter(({ number }) => number === 1).map(({ attempts }) => attempts)).toEqual([1, 2, 3]);
    expect(await countRows(db, "outbox_dead")).toBe(1);
    expect(await countRows(db, "outbox_parked")).toBe(0);
  });

  it("O7: several workers on one database hand every message to exactly one of them", async () => {
    const workers = await Promise.all(["a", "b", "c"].map((instanceId) => outboxOf({ instanceId })));
    const [producer] = workers;
    if (producer === undefined) throw new Error("no worker");
    const seen = new Map<string, number[]>();
    const handler = recorder();
    await Promise.all(
      workers.map((worker) =>
        worker.start(
          serving({
            usage: async (messages, context) => {
              for (const { messageId, tenantId, payload } of messages) {
                const number = JSON.parse(payload).web_search_calls;
                seen.set(tenantId, [...(seen.get(tenantId) ?? []), number]);
                expect(messageId).toMatch(/-/);
              }
              return handler.handler(messages, context);
            },
          }),
        ),
      ),
    );
    const tenants = [0, 1, 2, 3].flatMap((partition) => [tenantOf(partition), tenantOf(partition)]);
    const numbers = Array.from({ length: 60 }, (_, at) => at);
    await Promise.all(tenants.map((tenant) => enqueueNumbers(producer, db, tenant, numbers)));
    for (const worker of workers) worker.flush();
    await drained(db);
    expect(handler.seen).toHaveLength(tenants.length * numbers.length);
    for (const tenant of tenants) expect(seen.get(tenant)).toEqual(numbers);
  });

  it("O8: a stuck partition and a stuck queue delay no other", async () => {
    const outbox = await outboxOf();
    const stuck = tenantOf(0);
    const release = signal();
    const { seen, handler, until } = recorder(async ({ tenantId }) => {
      if (tenantId === stuck) await release.given;
      return { kind: "done" };
    });
    await outbox.start(serving({ usage: handler, audit: () => new Promise(() => {}) }));
    await inTransaction(db, (tx) =>
      outbox.enqueuer.enqueueAuditEvent(tx, {
        type: "delete",
        event_type: "turn_delete",
        timestamp: "2026-03-01T10:15:31.000Z",
        tenant_id: stuck,
        requester_type: "user",
        actor_user_id: stuck,
        chat_id: stuck,
        turn_id: stuck,
        request_id: stuck,
      }),
    );
    await enqueueNumbers(outbox, db, stuck, [1]);
    await until((all) => all.length === 1);
    await enqueueNumbers(outbox, db, tenantOf(1), [2]);
    await until((all) => all.length === 2);
    expect(seen.map(({ number }) => number)).toEqual([1, 2]);
    release.give();
  });

  it("O9: everything works with a pool of one connection", async () => {
    const single = new Db({
      url: database.url,
      maxConnections: 1,
      acquireTimeoutMs: 5_000,
      statementTimeoutMs: 15_000,
      lockTimeoutMs: 5_000,
      idleInTransactionTimeoutMs: 30_000,
    });
    const outbox = await registeredOutbox(single);
    const { seen, handler, until } = recorder((_message, { attempts, number }) =>
      number === 2 && attempts === 1 ? { kind: "retry", error: "down" } : { kind: "done" },
    );
    await outbox.start(serving({ usage: handler }));
    await Promise.all(
      [0, 1, 2, 3].map((partition) => enqueueNumbers(outbox, single, tenantOf(partition), [1, 2, 3])),
    );
    await until((all) => all.length === 16);
    await eventually(async () => (await countRows(single, "outbox_message")) === 0);
    expect(seen).toHaveLength(16);
    await outbox.stop();
    await single.close();
  });
});
