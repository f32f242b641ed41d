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

const silence = (secs: number): Promise<unknown> =>
  database.db.query("update app_instances set last_seen_at = last_seen_at - make_interval(secs => $1)", [
    secs,
  ]);

const ids = async (): Promise<string[]> =>
  (await database.db.query<{ id: string }>("select id from app_instances")).rows.map((row) => row.id);

test("a renewal moves the sign of life and nothing else", async () => {
  const mine = instance();
  await renewInstance(database.db, mine);
  await silence(20);
  await renewInstance(database.db, mine);
  const { rows } = await database.db.query<{ fresh: boolean; role: string }>(
    "select last_seen_at > now() - interval '5 s' and started_at < last_seen_at as fresh, role from app_instances",
  );
  expect(rows).toEqual([{ fresh: true, role: "all" }]);
});

test("an instance swept while it slept registers itself again", async () => {
  const mine = instance();
  await renewInstance(database.db, mine);
  await silence(3600);
  expect(await removeStaleInstances(database.db, 600)).toBe(1);
  await renewInstance(database.db, mine);
  expect(await ids()).toEqual([mine.id]);
});

test("the sweep spares who was seen", async () => {
  const old = instance();
  await renewInstance(database.db, old);
  await silence(601);
  const live = instance();
  await renewInstance(database.db, live);
  await removeStaleInstances(database.db, 600);
  expect(await ids()).toEqual([live.id]);
});

test("a graceful end leaves no row", async () => {
  const mine = instance();
  await renewInstance(database.db, mine);
  await removeInstance(database.db, mine.id);
  expect(await ids()).toEqual([]);
});

test("only worker and all instances that were seen count as live workers", async () => {
  await renewInstance(database.db, instance("worker"));
  await silence(120);
  await renewInstance(database.db, instance("api"));
  expect(await countLiveWorkers(database.db, 60)).toBe(0);
  await renewInstance(database.db, instance("worker"));
  await renewInstance(database.db, instance("all"));
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
