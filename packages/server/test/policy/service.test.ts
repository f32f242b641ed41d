import { afterAll, beforeAll, describe, expect, test, vi } from "vitest";
import { asUserId } from "../../src/auth/actor.ts";
import { InvalidSnapshotError, PolicyPluginError } from "../../src/policy/plugin.ts";
import { createTestDatabase, type TestDatabase } from "../support/database.ts";
import {
  closedGate,
  type FakeSource,
  fakeSource,
  limits,
  newUser,
  rawEntry,
  snapshotOf,
  startService,
  testService,
  versionSnapshot,
} from "./support.ts";

let database: TestDatabase;
beforeAll(async () => {
  database = await createTestDatabase();
});
afterAll(() => database.drop());

const start = (change: Partial<FakeSource> = {}, config: object = {}) =>
  startService(database.db, change, config);

const unavailable = { code: "service_unavailable", options: { headers: { "retry-after": "5" } } };
const down = new PolicyPluginError("internal", "connection refused");

describe("a cold tenant", () => {
  test("is asked for version, snapshot and limits once; then memory answers", async () => {
    const { service, source, user } = start();
    const policy = await service.resolve(user);
    expect(policy).toEqual({ version: 7n, snapshot: versionSnapshot(7n), limits });
    expect(source.calls).toEqual(["version", "snapshot 7", "limits 7 b1"]);
    expect((await service.resolve(user)).snapshot).toBe(policy.snapshot);
    expect(source.calls).toHaveLength(3);
  });

  test("makes one request per key, however many ask at once", async () => {
    const gate = closedGate();
    const { service, source, user } = start({ gate: gate.promise });
    const other = { ...user, userId: asUserId("00000000-0000-4000-8000-0000000000b2") };
    const all = Promise.all(Array.from({ length: 20 }, (_, at) => service.resolve(at % 2 ? user : other)));
    gate.resolve();
    await all;
    expect([...source.calls].sort()).toEqual(["limits 7 b1", "limits 7 b2", "snapshot 7", "version"]);
  });

  test("is unavailable while the plugin fails, and loads when it is back", async () => {
    const { service, source, user, results } = start({ failure: down });
    expect(service.everLoaded).toBe(false);
    await expect(service.resolve(user)).rejects.toMatchObject(unavailable);
    expect(results).toEqual({ error: 1 });
    source.failure = null;
    expect((await service.resolve(user)).version).toBe(7n);
    expect(service.everLoaded).toBe(true);
  });

  test.each<[string, Partial<FakeSource>]>([
    ["a version of 0", { latest: 0n }],
    ["a version above 2^53 - 1", { latest: 2n ** 53n }],
    ["a snapshot of another version", { snapshots: new Map([[7n, () => versionSnapshot(8n)]]) }],
    ["negative limits", { limits: () => ({ ...limits, premium: { daily: -1n, monthly: 1n } }) }],
    [
      "an unforeseen error",
      {
        limits: () => {
          throw new TypeError("x is not a function");
        },
      },
    ],
  ])("is unavailable with %s", async (_name, change) => {
    const { version } = start(change);
    await expect(version()).rejects.toMatchObject(unavailable);
  });

  test("is unavailable when the plugin does not answer in time", async () => {
    const { version, lines } = start({ gate: closedGate().promise }, { plugin_timeout_ms: 20 });
    await expect(version()).rejects.toMatchObject(unavailable);
    expect(lines).toContainEqual(expect.objectContaining({ level: "warn", msg: "policy load failed" }));
  });

  test("is unavailable when a plugin's entry breaks a rule, whatever its type says", async () => {
    const broken = snapshotOf([rawEntry()]);
    const entries = broken.modelCatalog.map((model) => ({ ...model, inputMultiplierMicro: 0n }));
    const { version, results } = start({
      snapshots: new Map([[7n, () => ({ ...broken, modelCatalog: entries })]]),
    });
    await expect(version()).rejects.toMatchObject(unavailable);
    expect(results).toEqual({ invalid: 1 });
  });
});

describe("stored snapshots", () => {
  test("serve another process without asking the plugin for the content", async () => {
    const { service, user } = start();
    await service.resolve(user);
    const source = fakeSource();
    const other = testService(database.db, source);
    expect((await other.service.resolve(user)).snapshot).toEqual(versionSnapshot(7n));
    expect(source.calls).toEqual(["version", "limits 7 b1"]);
  });

  test("are not written or read for a plugin whose versions are not stable", async () => {
    const { service, user } = start({ stableVersions: false });
    await service.resolve(user);
    const { rows } = await database.db.query("select 1 from policy_snapshots where tenant_id = $1", [
      user.tenantId,
    ]);
    expect(rows).toEqual([]);
  });

  test("win over another content of the same version, which is an error", async () => {
    const { source, user, service, lines } = start();
    const faster = testService(database.db, fakeSource());
    // Another process stores the version after this one found none and asked the plugin.
    source.snapshots.set(7n, () => snapshotOf([rawEntry({ id: "changed" })]));
    const { getPolicySnapshot } = source;
    source.getPolicySnapshot = async (...args) => {
      await faster.service.resolve(user);
      return getPolicySnapshot(...args);
    };
    expect((await service.resolve(user)).snapshot).toEqual(versionSnapshot(7n));
    expect(lines.filter(({ level }) => level === "error")).toEqual([
      expect.objectContaining({
        msg: "the policy source gave a stored version another content",
        policy_version: 7n,
      }),
    ]);
  });

  test("are held to the rules as well: a provider may be gone from the configuration", async () => {
    const { user, version, results } = start();
    const document = { model_catalog: [rawEntry({ provider_id: "gone" })], kill_switches: {} };
    await database.db.query("insert into policy_snapshots values ($1, 7, $2)", [user.tenantId, document]);
    await expect(version()).rejects.toMatchObject(unavailable);
    expect(results).toEqual({ invalid: 1 });
  });
});

describe("freshness", () => {
  test("up to the TTL the plugin is not asked", async () => {
    const { source, version, clock } = start();
    await version();
    source.latest = 8n;
    clock.advance(30);
    expect(await version()).toBe(7n);
    expect(source.calls).toHaveLength(3);
  });

  test("beyond it the old version answers while the new one is fetched", async () => {
    const { source, version, refresh } = start();
    await version();
    source.latest = 8n;
    await refresh();
    expect(await version()).toBe(8n);
    expect(source.calls).toContain("snapshot 8");
  });

  test("a request does not wait for a refresh", async () => {
    const { source, version, clock } = start();
    await version();
    source.gate = closedGate().promise;
    clock.advance(31);
    expect(await version()).toBe(7n);
  });

  test("a failing refresh is not repeated by every request", async () => {
    const { source, version, refresh, clock } = start();
    await version();
    source.failure = down;
    await refresh();
    const asked = source.calls.length;
    await version();
    await version();
    expect(source.calls).toHaveLength(asked);
    clock.advance(5);
    await version();
    expect(source.calls).toHaveLength(asked + 1);
  });

  test("a plugin down for 10 minutes goes unnoticed; after 16 policy is unavailable", async () => {
    const { source, version, clock } = start();
    await version();
    source.failure = down;
    clock.advance(600);
    expect(await version()).toBe(7n);
    clock.advance(360);
    await expect(version()).rejects.toMatchObject(unavailable);
    source.failure = null;
    expect(await version()).toBe(7n);
  });
});

describe("versions", () => {
  test("an invalid new version leaves the old one in force", async () => {
    const { source, version, refresh, results, lines } = start();
    await version();
    source.latest = 8n;
    source.snapshots.set(8n, () => {
      throw new InvalidSnapshotError([{ key: "model_catalog[0].tier", message: "unknown" }]);
    });
    await refresh();
    expect(await version()).toBe(7n);
    expect(results["invalid"]).toBe(1);
    expect(lines).toContainEqual(expect.objectContaining({ level: "error", msg: "policy load failed" }));
  });

  test("which does not make the old one younger", async () => {
    const { source, version, clock } = start();
    await version();
    source.latest = 8n;
    source.snapshots.set(8n, () => {
      throw new InvalidSnapshotError([]);
    });
    clock.advance(901);
    await expect(version()).rejects.toMatchObject(unavailable);
  });

  test("a lower version is ignored with a warning", async () => {
    const { source, version, refresh, lines } = start();
    await version();
    source.latest = 6n;
    await refresh();
    expect(await version()).toBe(7n);
    expect(source.calls).not.toContain("snapshot 6");
    expect(lines.filter(({ level }) => level === "warn")).toEqual([
      expect.objectContaining({ msg: "the policy version went back and is ignored", policy_version: 6n }),
    ]);
  });

  test("a slow load of a lower version does not undo a faster one of a higher", async () => {
    const { source, service, user, version, clock } = start({ stableVersions: false });
    await version();
    const slow = closedGate();
    const { getPolicySnapshot } = source;
    source.getPolicySnapshot = async (ctx, asked) => {
      const snapshot = await getPolicySnapshot(ctx, asked);
      if (asked === 8n) await slow.promise;
      return snapshot;
    };
    source.latest = 8n;
    clock.advance(31);
    await version();
    await vi.waitFor(() => expect(source.calls).toContain("snapshot 8"));
    await service.notify(user.tenantId, 9n);
    slow.resolve();
    // Reconciling shares the refresh under way, and so waits for its end.
    clock.advance(31);
    await service.reconcile(new AbortController().signal);
    expect(await version()).toBe(9n);
  });

  test("a switch drops the limits of the version before", async () => {
    const { source, service, user, refresh } = start();
    await service.resolve(user);
    source.latest = 8n;
    source.limits = () => ({ ...limits, standard: { daily: 1n, monthly: 1n } });
    await refresh();
    expect((await service.resolve(user)).limits.standard.daily).toBe(1n);
    expect(source.calls).toContain("limits 8 b1");
  });

  test("tenants do not share versions", async () => {
    const { source, service, version } = start();
    await version();
    source.latest = 9n;
    expect((await service.resolve(newUser())).version).toBe(9n);
    expect(await version()).toBe(7n);
  });
});

describe("limits", () => {
  test("are kept per user", async () => {
    const { service, source, user } = start();
    await service.resolve(user);
    await service.resolve({ ...user, userId: asUserId("00000000-0000-4000-8000-0000000000b2") });
    expect(source.calls).toEqual(["version", "snapshot 7", "limits 7 b1", "limits 7 b2"]);
  });

  test("are refreshed behind a request after their TTL", async () => {
    const { service, source, user, clock } = start({}, { version_ttl_secs: 900 });
    await service.resolve(user);
    source.limits = () => ({ ...limits, premium: { daily: 0n, monthly: 0n } });
    clock.advance(120);
    await service.resolve(user);
    expect(source.calls).toHaveLength(3);
    clock.advance(1);
    expect((await service.resolve(user)).limits).toEqual(limits);
    await vi.waitFor(async () =>
      expect((await service.resolve(user)).limits.premium).toEqual({ daily: 0n, monthly: 0n }),
    );
    expect(source.calls).toHaveLength(4);
  });

  test("make room for those of others at capacity", async () => {
    const { service, source, user } = start({}, { limits_capacity: 1 });
    await service.resolve(user);
    await service.resolve({ ...user, userId: asUserId("00000000-0000-4000-8000-0000000000b2") });
    await service.resolve(user);
    expect(source.calls.filter((call) => call === "limits 7 b1")).toHaveLength(2);
  });
});

test("a snapshot that left memory comes back from the table, or from a source that is not stored", async () => {
  for (const [stableVersions, expected] of [
    [true, 1],
    [false, 2],
  ] as const) {
    const { service, source, user } = start({ stableVersions }, { snapshot_capacity: 1 });
    await service.resolve(user);
    await service.resolve(newUser());
    const asked = (): number => source.calls.filter((call) => call === "snapshot 7").length;
    const before = asked();
    expect((await service.resolve(user)).snapshot).toEqual(versionSnapshot(7n));
    expect(asked() - before).toBe(expected - 1);
  }
});
