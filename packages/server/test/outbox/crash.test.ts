import { type ChildProcess, fork } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, beforeEach, describe, expect, it } from "vitest";
import type { Db } from "../../src/db/pool.ts";
import { inTransaction } from "../../src/db/tx.ts";
import { createTestDatabase } from "../support/database.ts";
import {
  countRows,
  crashLease,
  drained,
  enqueueNumbers,
  eventually,
  expireLeases,
  freshOutbox,
  numbered,
  ownOutboxes,
  recorder,
  registeredOutbox,
  serving,
  tenantOf,
} from "./support.ts";

let database: Awaited<ReturnType<typeof createTestDatabase>>;
let db: Db;
let directory: string;
const { outboxOf, stopAll } = ownOutboxes(() => db);
const children = new Set<ChildProcess>();
let spawned = 0;

const killAll = async (): Promise<void> => {
  await Promise.all([...children].map(kill));
};

beforeAll(async () => {
  database = await createTestDatabase();
  db = database.db;
  directory = await mkdtemp(join(tmpdir(), "outbox-crash-"));
});
beforeEach(async () => {
  await killAll();
  await stopAll();
  await freshOutbox(db);
});
afterAll(async () => {
  await killAll();
  await stopAll();
  await rm(directory, { recursive: true });
  await database.drop();
});

interface Taken {
  readonly tenant: string;
  readonly number: number;
  readonly messageId: string;
  readonly attempts: number;
}

/** `kill -9`; resolves when the process is gone. */
const kill = async (child: ChildProcess): Promise<void> => {
  children.delete(child);
  if (child.exitCode !== null || child.signalCode !== null) return;
  const exited = once(child, "exit");
  child.kill("SIGKILL");
  await exited;
};

/** A process, and what it has taken on so far. */
const spawn = async (mode: "hang" | "deliver" | "produce", tenant = "") => {
  spawned += 1;
  const file = join(directory, `${spawned}.log`);
  await writeFile(file, "");
  const child = fork(new URL("crash-worker.ts", import.meta.url), [database.url, file, mode, tenant], {
    execArgv: [],
    stdio: "inherit",
  });
  children.add(child);
  await once(child, "message");
  const taken = async (): Promise<Taken[]> =>
    (await readFile(file, "utf8"))
      .split("\n")
      .filter((line) => line !== "")
      .map((line) => JSON.parse(line));
  return { taken, kill: () => kill(child) };
};

const survivor = async (change: Parameters<typeof registeredOutbox>[1] = {}) => {
  const record = recorder();
  const outbox = await outboxOf({
    instanceId: "survivor",
    queues: { override: { usage: crashLease } },
    ...change,
  });
  await outbox.start(serving({ usage: record.handler }));
  return record;
};

describe("kill -9 (outbox.md §15)", () => {
  it("before the commit of the producer: there is no event (O1)", async () => {
    const producer = await spawn("produce", tenantOf(0));
    await producer.kill();
    // Granted once the server has noticed, which ends the transaction.
    await inTransaction(db, (tx) => tx.query("lock table outbox_message in access exclusive mode"));
    expect(await countRows(db, "outbox_message")).toBe(0);
  });

  it("after the commit, before the flush: a worker finds the event by itself", async () => {
    const producer = await registeredOutbox(db);
    const record = await survivor();
    await inTransaction(db, (tx) => producer.enqueuer.enqueueUsageEvent(tx, numbered(tenantOf(0), 1)));
    await record.until((all) => all.length === 1);
  });

  it("while handling: redelivered within the lease, the crash counted, nothing lost or reordered", async () => {
    const producer = await registeredOutbox(db);
    const worker = await spawn("hang");
    const tenant = tenantOf(0);
    await enqueueNumbers(producer, db, tenant, [1]);
    await eventually(async () => (await worker.taken()).length > 0);
    await enqueueNumbers(producer, db, tenant, [2, 3]);
    const [first] = await worker.taken();
    const record = await survivor();
    await worker.kill();
    const killedAt = performance.now();
    await record.until((all) => all.length > 0);
    // The lease was running before the kill; two seconds are the margin of outbox.md §17.
    expect(performance.now() - killedAt).toBeLessThan(crashLease.leaseMs + 2_000);
    await drained(db);
    expect(record.seen.map(({ number, attempts }) => [number, attempts])).toEqual([
      [1, 2],
      [2, 1],
      [3, 1],
    ]);
    expect(first).toMatchObject({ number: 1, attempts: 1, messageId: record.seen[0]?.messageId });
  });

  it("of one of two workers at load: nothing lost, order kept, only what was under way comes twice", async () => {
    const producer = await registeredOutbox(db);
    const doomed = await spawn("deliver");
    const tenants = [0, 1, 2, 3].map(tenantOf);
    const numbers = Array.from({ length: 150 }, (_, at) => at);
    const producing = Promise.all(tenants.map((tenant) => enqueueNumbers(producer, db, tenant, numbers)));
    await eventually(async () => (await doomed.taken()).length > 0);
    const other = await spawn("deliver");
    // Whoever is faster: both have work, or the doomed one has had enough of it.
    await eventually(async () => (await other.taken()).length > 0 || (await doomed.taken()).length > 200);
    await doomed.kill();
    await producing;
    await drained(db);
    const [before, after] = [await doomed.taken(), await other.taken()];
    const ids = new Set([...before, ...after].map(({ messageId }) => messageId));
    expect(ids.size).toBe(tenants.length * numbers.length);
    const early = new Set(before.map(({ messageId }) => messageId));
    for (const tenant of tenants) {
      for (const taken of [before, after]) {
        const own = taken.filter((one) => one.tenant === tenant).map(({ number }) => number);
        expect(own).toEqual([...new Set(own)].sort((a, b) => a - b));
      }
      // What comes again is the last batch the dead one had taken on, and nothing before it.
      const last = before.filter((one) => one.tenant === tenant).slice(-10);
      const again = after.filter((one) => one.tenant === tenant && early.has(one.messageId));
      expect(last.slice(last.length - again.length).map(({ number }) => number)).toEqual(
        again.map(({ number }) => number),
      );
      // The head's second run is counted, which shows that the lease was taken over, not shared.
      expect(again.slice(0, 1).every(({ attempts }) => attempts === 2)).toBe(true);
    }
    expect(await countRows(db, "outbox_dead")).toBe(0);
  });

  it("each time on one message: a dead letter once its attempts are used up, the rest goes on", async () => {
    const producer = await registeredOutbox(db);
    await enqueueNumbers(producer, db, tenantOf(1), [1, 2]);
    for (let crash = 0; crash < 2; crash += 1) {
      const worker = await spawn("hang");
      await eventually(async () => (await worker.taken()).length > 0);
      await worker.kill();
      await expireLeases(db);
    }
    const record = await survivor({ queues: { override: { usage: { maxAttempts: 2 } } } });
    await drained(db);
    expect(record.seen.map(({ number }) => number)).toEqual([2]);
    const { rows } = await db.query<{ error: string; attempts: number }>(
      "select error, attempts from outbox_dead",
    );
    expect(rows).toEqual([
      { error: "max attempts (2) reached: the worker died while handling it", attempts: 2 },
    ]);
  });

  it("each time on one event of an unlimited queue: its neighbours are served before it is tried again", async () => {
    const producer = await registeredOutbox(db);
    const [poison, neighbour] = [tenantOf(1), tenantOf(1)];
    await enqueueNumbers(producer, db, poison, [1]);
    for (let crash = 0; crash < 2; crash += 1) {
      const worker = await spawn("hang");
      await eventually(async () => (await worker.taken()).length > 0);
      await worker.kill();
      await expireLeases(db);
    }
    await enqueueNumbers(producer, db, neighbour, [2]);
    const record = await survivor();
    await drained(db);
    expect(record.seen.map(({ number, attempts }) => [number, attempts])).toEqual([
      [2, 1],
      [1, 3],
    ]);
    expect(await countRows(db, "outbox_dead")).toBe(0);
  });
});
