import { afterAll, beforeAll, expect, test } from "vitest";
import { nextReset } from "../../src/quota/periods.ts";
import { createTestDatabase, type TestDatabase } from "../support/database.ts";
import { usageRows } from "./rows.ts";
import { admitted, type End, end, model, newActor, send } from "./support.ts";

let database: TestDatabase;
beforeAll(async () => {
  // One connection: the session of the time zone test is the one that works.
  database = await createTestDatabase({ maxConnections: 1 });
});
afterAll(() => database.drop());

test.each([
  ["daily", "2026-12-31", "2027-01-01T00:00:00Z"],
  ["monthly", "2026-12-01", "2027-01-01T00:00:00Z"],
  ["daily", "2028-02-28", "2028-02-29T00:00:00Z"],
  ["daily", "2028-02-29", "2028-03-01T00:00:00Z"],
  ["daily", "2026-02-28", "2026-03-01T00:00:00Z"],
  ["monthly", "2026-02-01", "2026-03-01T00:00:00Z"],
  ["monthly", "2026-01-01", "2026-02-01T00:00:00Z"],
] as const)("quota.md §15.9: the %s period of %s ends at %s", (period, start, reset) => {
  expect(nextReset(period, start)).toBe(reset);
});

const premium = model({ id: "P", tier: "premium" });
const whenStarted = (startedAt: string) => ({ models: [premium], estimatedInputTokens: 1_210n, startedAt });

// Both settle today, long after the period of the reserve is over.
test.each<[string, End]>([
  ["its own stream", { usage: { inputTokens: 900, outputTokens: 300 } }],
  ["the watchdog", { state: "failed", errorCode: "orphan_timeout" }],
])("quota.md §15.9: a turn of the last day of February is settled there by %s", async (_name, ending) => {
  const actor = newActor();
  const sent = await send(database.db, actor, whenStarted("2026-02-28T23:59:59.900Z"));
  const { anomalies } = await end(database.db, admitted(sent), ending);
  expect(anomalies).toEqual([]);
  const rows = await usageRows(database.db, actor);
  expect(rows.map((row) => [row.bucket, row.period, row.start, row.reserved, row.calls])).toEqual([
    ["total", "daily", "2026-02-28", 0n, 1],
    ["total", "monthly", "2026-02-01", 0n, 1],
    ["tier:premium", "daily", "2026-02-28", 0n, 1],
    ["tier:premium", "monthly", "2026-02-01", 0n, 1],
  ]);
});

test.each([
  ["2026-02-28T23:59:59.999999Z", "2026-02-28", "2026-02-01"],
  ["2026-03-01T00:00:00Z", "2026-03-01", "2026-03-01"],
  ["2026-03-01T01:30:00+02:00", "2026-02-28", "2026-02-01"],
  ["2028-02-29T12:00:00Z", "2028-02-29", "2028-02-01"],
  ["2026-12-31T23:00:00-05:00", "2027-01-01", "2027-01-01"],
])("a turn started at %s counts for the day %s and the month %s, in UTC", async (startedAt, day, month) => {
  const actor = newActor();
  await send(database.db, actor, whenStarted(startedAt));
  const rows = await usageRows(database.db, actor);
  expect(rows.map((row) => row.start)).toEqual([day, month, day, month]);
});

test("the day is UTC whatever the time zone of the session", async () => {
  const actor = newActor();
  await database.db.query("set time zone 'Pacific/Kiritimati'");
  await send(database.db, actor, whenStarted("2026-02-28T23:00:00Z"));
  await database.db.query("set time zone 'UTC'");
  const rows = await usageRows(database.db, actor);
  expect(rows.map((row) => row.start)).toEqual(["2026-02-28", "2026-02-01", "2026-02-28", "2026-02-01"]);
});
