import { afterEach, beforeEach, expect, test } from "vitest";
import {
  countLiveWorkers,
  type Instance,
  removeInstance,
  removeStaleInstances,
  renewInstance,
  startHeartbeat,
} from "../../src/db/instances.ts";
import { uuidV4 } from "../../src/lib/id.ts";
import { createTestDatabase, type TestDatabase } from "../support/database.ts";

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
