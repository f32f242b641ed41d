import { expect, test } from "vitest";
import { createAppHealth } from "../../src/app/health.ts";
import { Db } from "../../src/db/pool.ts";
import { startApiApp } from "../api/support.ts";
import { testConfig } from "../outbox/support.ts";
import { createTestDatabase } from "../support/database.ts";

test("one slow answer of the database does not make a process unready, a second one does (ops.md §4)", async () => {
  const database = await createTestDatabase();
  const db = new Db({
    url: database.url,
    maxConnections: 1,
    acquireTimeoutMs: 30_000,
    statementTimeoutMs: 15_000,
    lockTimeoutMs: 5_000,
    idleInTransactionTimeoutMs: 30_000,
  });
  // The only connection is taken: every look waits for it.
  const holder = await db.pool.connect();
  try {
    const health = createAppHealth({
      config: { outbox: { ...testConfig, dead_letter_retention_days: 30 }, instance_lease_secs: 30 },
      db,
      isDraining: () => false,
      policyLoaded: () => true,
      served: [],
    });
    expect(await health.readiness()).toMatchObject({ ready: true });
    await expect.poll(async () => (await health.readiness()).ready, { timeout: 10_000 }).toBe(false);
  } finally {
    holder.release();
    await db.close();
    await database.drop();
  }
});

test("a worker that reports as often as its lease asks is alive", async () => {
  const app = await startApiApp({ config: { role: "api", instance_lease_secs: 300 } });
  try {
    await app.db.query(
      "insert into app_instances (id, role, version, last_seen_at) values (gen_random_uuid(), 'worker', 'x', now() - interval '95 seconds')",
    );
    const health = await (await fetch(`${app.opsBase}/health`)).json();
    expect(health).toMatchObject({ status: "healthy" });
  } finally {
    await app.close();
  }
});
