import { randomUUID } from "node:crypto";
import { afterEach, beforeEach, expect, test } from "vitest";
import { eventually } from "../support/app.ts";
import type { ServerProcess } from "../support/process.ts";
import {
  ageDeadProcesses,
  ageRunningTurns,
  createGround,
  expectOneEvent,
  type Ground,
  holdLock,
  newChat,
  send,
  turnStatus,
  waitingForLocks,
} from "./support.ts";

let ground: Ground;
beforeEach(async () => {
  ground = await createGround();
});
afterEach(async () => {
  await ground.clear();
});

/** A turn whose process was killed, an orphan by now. */
const leaveOrphan = async (): Promise<{ chatId: string; requestId: string }> => {
  const requestId = randomUUID();
  const owner = await ground.start({ config: { orphan_watchdog: { enabled: false } } });
  const chatId = await newChat(owner);
  ground.simulator.enqueue({ gate: "never" });
  await send(owner, chatId, { requestId });
  await ground.simulator.arrived("never");
  await owner.kill();
  await ageDeadProcesses(ground.db);
  return { chatId, requestId };
};

const hasLed = ({ logs }: ServerProcess): boolean =>
  logs.some(
    (line) => line["msg"] === "leader change" && line["job"] === "orphan_watchdog" && line["leader"] === true,
  );

test("the watchdog runs in one process at a time, and moves when that one is killed (ops.md §8)", async () => {
  const { chatId, requestId } = await leaveOrphan();
  // Whoever scans stays in its scan, with the lock.
  const release = await holdLock(ground.databaseUrl, "select from quota_usage for update");
  const [one, other] = await Promise.all([ground.start(), ground.start()]);
  await waitingForLocks(ground.db);
  const holders = await ground.db.query(
    `select from pg_locks
     where locktype = 'advisory' and classid = 19779 and objid = 1 and granted
       and database = (select oid from pg_database where datname = current_database())`,
  );
  expect(holders.rowCount).toBe(1);
  await eventually(() => hasLed(one) || hasLed(other));
  expect(hasLed(one) && hasLed(other)).toBe(false);
  const [leader, follower] = hasLed(one) ? [one, other] : [other, one];
  await leader.kill();
  await eventually(() => hasLed(follower));
  await release();
  await eventually(async () => (await turnStatus(follower, chatId, requestId))["state"] === "error");
  await expectOneEvent(ground, { request_id: requestId });
});

test("a process whose watchdog is switched off ends no orphan", async () => {
  const { chatId, requestId } = await leaveOrphan();
  const off = await ground.start({ config: { orphan_watchdog: { enabled: false } } });
  // With its interval of a second it would have scanned by the time another one is up, and first.
  const began = performance.now();
  const on = await ground.start();
  await expect.poll(() => performance.now() - began, { timeout: 10_000 }).toBeGreaterThan(1_000);
  await eventually(async () => (await turnStatus(off, chatId, requestId))["state"] === "error");
  expect(hasLed(on)).toBe(true);
  expect(hasLed(off)).toBe(false);
});

test("a watchdog that loses its connection stops, and goes on when it is back", async () => {
  const { chatId, requestId } = await leaveOrphan();
  const release = await holdLock(ground.databaseUrl, "select from quota_usage for update");
  const server = await ground.start();
  await waitingForLocks(ground.db);
  await ground.db.query(
    `select pg_terminate_backend(pid)
     from pg_stat_activity
     where application_name = 'mini-chat direct'
       and datname = current_database()`,
  );
  await server.logged((line) => line["msg"] === "direct database connection lost");
  await release();
  await eventually(async () => (await turnStatus(server, chatId, requestId))["state"] === "error");
  const live = await newChat(server);
  const later = randomUUID();
  ground.simulator.enqueue({ gate: "later" });
  await send(server, live, { requestId: later });
  await ground.simulator.arrived("later");
  await ageRunningTurns(ground.db);
  await eventually(async () => (await turnStatus(server, live, later))["error_code"] === "orphan_timeout");
});
