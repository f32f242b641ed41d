import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { PolicyPluginError } from "../../src/policy/plugin.ts";
import { createTestDatabase, type TestDatabase } from "../support/database.ts";
import { closedGate, type FakeSource, newUser, startService } from "./support.ts";

let database: TestDatabase;
beforeAll(async () => {
  database = await createTestDatabase();
});
afterAll(() => database.drop());

const start = (change: Partial<FakeSource> = {}, config: object = {}) =>
  startService(database.db, change, config);

const down = new PolicyPluginError("internal", "connection refused");

describe("a notification", () => {
  test("of a higher version is fetched at once for the last user seen", async () => {
    const { service, source, user, version } = start();
    await version();
    source.calls.length = 0;
    await service.notify(user.tenantId, 8n);
    expect(source.calls).toEqual(["snapshot 8"]);
    expect(source.users.at(-1)).toBe(user.userId);
    expect(await version()).toBe(8n);
  });

  test("makes requests wait until its version is there", async () => {
    const { service, source, user, version } = start();
    await version();
    const gate = closedGate();
    source.gate = gate.promise;
    const notified = service.notify(user.tenantId, 8n);
    const sends = [version(), version()];
    gate.resolve();
    expect(await Promise.all(sends)).toEqual([8n, 8n]);
    await notified;
  });

  test("holds requests up no longer than the plugin's time", async () => {
    const { service, source, user, version } = start({}, { plugin_timeout_ms: 20 });
    await version();
    source.gate = closedGate().promise;
    const notified = service.notify(user.tenantId, 8n);
    expect(await version()).toBe(7n);
    await notified;
  });

  test("for a tenant without a user is fetched with the next request's", async () => {
    const { service, source, user, version } = start();
    await service.notify(user.tenantId, 8n);
    expect(source.calls).toEqual([]);
    expect(await version()).toBe(8n);
  });

  test("whose version cannot be had is a failure and forgotten", async () => {
    const { service, source, user, version, results } = start();
    await version();
    source.snapshots.set(8n, () => {
      throw new PolicyPluginError("not_found", "no such version");
    });
    await service.notify(user.tenantId, 8n);
    expect(results["error"]).toBe(1);
    source.calls.length = 0;
    expect(await version()).toBe(7n);
    expect(source.calls).toEqual([]);
  });

  test("of the current or a lower version changes nothing", async () => {
    const { service, source, user, version } = start();
    await version();
    source.calls.length = 0;
    await service.notify(user.tenantId, 7n);
    await service.notify(user.tenantId, 6n);
    expect(await version()).toBe(7n);
    expect(source.calls).toEqual([]);
  });

  test("overtaken by a higher one still ends at the highest", async () => {
    const { service, source, user, version } = start();
    await version();
    const gate = closedGate();
    source.gate = gate.promise;
    const notified = [9n, 8n, 10n].map((announced) => service.notify(user.tenantId, announced));
    gate.resolve();
    await Promise.all(notified);
    expect(await version()).toBe(10n);
    expect(source.calls).not.toContain("snapshot 8");
  });
});

describe("reconciliation", () => {
  const signal = (): AbortSignal => new AbortController().signal;

  test("refreshes tenants seen in the last hour, as their last user", async () => {
    const { service, source, user, version, clock } = start();
    await version();
    source.latest = 8n;
    clock.advance(3_599);
    await service.reconcile(signal());
    expect(source.users.at(-1)).toBe(user.userId);
    expect(await version()).toBe(8n);
  });

  test("leaves the others alone, and those still fresh", async () => {
    const { service, source, version, clock } = start();
    await version();
    await service.reconcile(signal());
    clock.advance(3_600);
    await service.reconcile(signal());
    expect(source.calls).toHaveLength(3);
  });

  test("goes on after a failure, and stops when told", async () => {
    const { service, source, version, clock } = start();
    await version();
    await service.resolve(newUser());
    source.failure = down;
    clock.advance(60);
    source.calls.length = 0;
    await service.reconcile(signal());
    expect(source.calls).toEqual(["version", "version"]);
    await service.reconcile(AbortSignal.abort());
    expect(source.calls).toHaveLength(2);
  });
});
