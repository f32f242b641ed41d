import { randomUUID } from "node:crypto";
import { afterAll, afterEach, beforeAll, expect, test, vi } from "vitest";
import { eventually, startTestApp, type TestApp } from "../support/app.ts";
import { samples, turnRow } from "./support.ts";

let app: TestApp;
beforeAll(async () => {
  app = await startTestApp({ config: { role: "api" } });
});
afterEach(() => {
  vi.restoreAllMocks();
});
afterAll(async () => {
  await app.close();
});

/** A turn whose log has been kept for as long as it is; its id. */
const oldLog = async (): Promise<string> => {
  const chatId = await app.createChat();
  const requestId = randomUUID();
  const body = { content: "hi", request_id: requestId, on_disconnect: "continue" };
  await (await app.send(chatId, body)).rest();
  const { id } = await turnRow(app, requestId);
  await app.db.query("update turn_events set created_at = now() - interval '61 minutes' where turn_id = $1", [
    id,
  ]);
  await app.db.query("update chat_turns set completed_at = now() - interval '61 minutes' where id = $1", [
    id,
  ]);
  return id;
};

const eventsOf = async (turnId: string): Promise<number> =>
  (await app.db.query("select from turn_events where turn_id = $1", [turnId])).rowCount;

test.each(["worker", "all"])("a process in the role %s removes the logs whose time is over", async (role) => {
  const turnId = await oldLog();
  expect(await eventsOf(turnId)).toBeGreaterThan(0);
  // Leader jobs begin at a random time within their interval.
  vi.spyOn(Math, "random").mockReturnValue(0);
  const other = await startTestApp({
    config: { role },
    database: app.database,
    simulator: app.simulator,
  });
  await eventually(async () => (await eventsOf(turnId)) === 0);
  await other.close();
});

test("a process in the role api leaves them to others", async () => {
  vi.spyOn(Math, "random").mockReturnValue(0);
  const other = await startTestApp({
    config: { role: "api" },
    database: app.database,
    simulator: app.simulator,
  });
  expect([...(await samples(other, "leader")).keys()].join()).not.toContain("turn_log_retention");
  await other.close();
});
