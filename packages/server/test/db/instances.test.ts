import { afterEach, beforeEach, expect, test } from "vitest";
import {
  countLiveWorkers,
  type Instance,
  removeInstance,
  removeStaleInstances,
  renewInstance,
  startHeartbeat,
} from "../../src/db/instances.ts";
import { Db } from "../../src/db/pool.ts";
import { uuidV4 } from "../../src/lib/id.ts";
import { eventually } from "../support/app.ts";
import { createTestDatabase, type TestDatabase } from "../support/database.ts";
import { startDatabaseProxy } from "../support/proxy.ts";

let database: TestDatabase;
beforeEach(async () => {
  database = await createTestDatabase();
});
afterEach(() => database.drop());

const instance = (role: Instance["role"] = "all"): Instance => ({ id: uuidV4(), role, version: "0.1.0" });

const leaseSecs = 30;

const renew = (one: Instance): Promise<void> => renewInstance(database.db, one, leaseSecs);

const silence = (secs: number): Promise<unknown> =>
  database.db.query("update app_instances set last_seen_at = last_seen_at - make_interval(secs => $1)", [
    secs,
  ]);

const ids = async (): Promise<string[]> =>
  (await database.db.query<{ id: string }>("select id from app_instances")).rows.map((row) => row.id);

test.each([
  ["a renewal moves the sign of life and nothing else", 14, false],
  ["a renewal after more than half the lease begins anew: in between others were silent too", 16, true],
])("%s", async (_, silentSecs, anew) => {
  const mine = instance();
  await renew(mine);
  await silence(silentSecs);
  await renew(mine);
  const { rows } = await database.db.query<{ fresh: boolean; anew: boolean; role: string }>(
    `select
       last_seen_at > now() - interval '5 s' as fresh,
       started_at = last_seen_at as anew,
       role
     from app_instances`,
  );
  expect(rows).toEqual([{ fresh: true, anew, role: "all" }]);
});

test("a renewal that hangs on a dead connection is given up, and the next one goes by another", async () => {
  const proxy = await startDatabaseProxy(database.url);
  // A pool that waits for an answer for longer than this test does.
  const db = new Db({
    url: proxy.url,
    maxConnections: 2,
    acquireTimeoutMs: 30_000,
    statementTimeoutMs: 120_000,
    lockTimeoutMs: 5_000,
    idleInTransactionTimeoutMs: 30_000,
  });
  const mine = instance();
  const failures: unknown[] = [];
  await renewInstance(db, mine, 3);
  proxy.holdAnswers();
  const heartbeat = startHeartbeat(db, mine, { leaseSecs: 3, onError: (error) => failures.push(error) });
  try {
    await eventually(() => failures.length > 0);
    await database.db.query("update app_instances set last_seen_at = now() - interval '1 hour'");
    await eventually(
      async () =>
        (
          await database.db.query(
            "select from app_instances where last_seen_at > now() - interval '1 minute'",
          )
        ).rowCount === 1,
    );
  } finally {
    await heartbeat.stop();
    await db.close();
    await proxy.close();
  }
});

test("an instance swept while it slept registers itself again", async () => {
  const mine = instance();
  await renew(mine);
  await silence(3600);
  expect(await removeStaleInstances(database.db, 600)).toBe(1);
  await renew(mine);
  expect(await ids()).toEqual([mine.id]);
});

test("the sweep spares who was seen", async () => {
  const old = instance();
  await renew(old);
  await silence(601);
  const live = instance();
  await renew(live);
  await removeStaleInstances(database.db, 600);
  expect(await ids()).toEqual([live.id]);
});

test("a graceful end leaves no row", async () => {
  const mine = instance();
  await renew(mine);
  await removeInstance(database.db, mine.id);
  expect(await ids()).toEqual([]);
});

test("only worker and all instances that were seen count as live workers", async () => {
  await renew(instance("worker"));
  await silence(120);
  await renew(instance("api"));
  expect(await countLiveWorkers(database.db, 60)).toBe(0);
  await renew(instance("worker"));
  await renew(instance("all"));
  expect(await countLiveWorkers(database.db, 60)).toBe(2);
});

test("the heartbeat renews until it is stopped", async () => {
  const mine = instance();
  const heartbeat = startHeartbeat(database.db, mine, {
    leaseSecs: 0.03,
    onError: (error) => {
      throw error;
    },
  });
  await expect.poll(ids).toEqual([mine.id]);
  await heartbeat.stop();
  await removeInstance(database.db, mine.id);
  expect(await ids()).toEqual([]);
});
