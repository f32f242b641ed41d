import fc from "fast-check";
import { afterAll, beforeAll, describe, it } from "vitest";
import { queueSettings } from "../../src/outbox/queue.ts";
import { createTestDatabase } from "../support/database.ts";
import { history, playHistory } from "./histories.ts";
import { registeredOutbox, tenantOf, testConfig } from "./support.ts";

type TestDatabase = Awaited<ReturnType<typeof createTestDatabase>>;

// Each lane has a database of its own, so that they do not wait for each other.
const lanes = [
  { policy: "park_key", lane: 1 },
  { policy: "park_key", lane: 2 },
  { policy: "block", lane: 3 },
] as const;
const historiesPerLane = 3_400;
const databases: TestDatabase[] = [];

beforeAll(async () => {
  databases.push(...(await Promise.all(lanes.map(() => createTestDatabase({ maxConnections: 6 })))));
});
afterAll(() => Promise.all(databases.map((database) => database.drop())));

describe("10,000 histories of producers, late commits, workers and crashes", () => {
  it.concurrent.each(lanes)(
    "keep causal order and lose nothing: $policy, lane $lane (O1, O4, O5, O6, O7)",
    async ({ policy, lane }) => {
      const db = databases[lane - 1]?.db;
      if (db === undefined) throw new Error("no database");
      const outbox = await registeredOutbox(db);
      const settings = { ...queueSettings(testConfig).usage, policy };
      const stage = { db, outbox, settings, tenants: [0, 0, 0, 1, 2].map(tenantOf) };
      await fc.assert(
        fc.asyncProperty(history, (moves) => playHistory(stage, moves)),
        { numRuns: historiesPerLane, endOnFailure: true },
      );
    },
    600_000,
  );
});
