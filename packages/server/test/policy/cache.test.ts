import { expect, test } from "vitest";
import { ageOf } from "../../src/policy/cache/freshness.ts";
import { createLimitsCache } from "../../src/policy/cache/limits.ts";
import { Lru } from "../../src/policy/cache/lru.ts";
import { createSingleFlight } from "../../src/policy/cache/single-flight.ts";
import { closedGate, limits, user } from "./support.ts";

test("a full LRU forgets what was unused for longest", () => {
  const lru = new Lru<number>(2);
  lru.set("a", 1);
  lru.set("b", 2);
  lru.get("a");
  lru.set("c", 3);
  expect([lru.get("a"), lru.get("b"), lru.get("c")]).toEqual([1, undefined, 3]);
  lru.set("a", 4);
  lru.removeWhere((value) => value === 3);
  expect([...lru.values()]).toEqual([4]);
});

test.each([
  [0, "fresh"],
  [30, "fresh"],
  [31, "stale"],
  [900, "stale"],
  [901, "too_stale"],
  [-5, "fresh"],
] as const)("an answer %s ms old is %s", (ageMs, age) => {
  expect(ageOf(1_000, 1_000 + ageMs, { ttlMs: 30, maxStaleMs: 900 })).toBe(age);
});

test("one flight per key, and a new one after it ended, well or badly", async () => {
  const once = createSingleFlight<number>();
  const gate = closedGate();
  let runs = 0;
  const work = async (): Promise<number> => {
    runs += 1;
    await gate.promise;
    return runs;
  };
  const both = [once("a", work), once("a", work)];
  gate.resolve();
  expect(await Promise.all(both)).toEqual([1, 1]);
  await expect(once("a", () => Promise.reject(new Error("no")))).rejects.toThrow("no");
  expect(await once("a", work)).toBe(2);
});

test("dropping limits keeps those of the version in force and of other tenants", async () => {
  const asked: bigint[] = [];
  const cache = createLimitsCache({
    plugin: {
      getUserLimits: async (_ctx, version) => {
        asked.push(version);
        return limits;
      },
    },
    load: (_what, _tenantId, work) => work(),
    clock: { now: () => 0 },
    capacity: 10,
    freshness: { ttlMs: 1, maxStaleMs: 1 },
  });
  const other = { ...user, tenantId: "00000000-0000-4000-8000-00000000000b" as typeof user.tenantId };
  const readAll = async (): Promise<void> => {
    await cache.get(user, 7n);
    await cache.get(user, 8n);
    await cache.get(other, 7n);
  };
  await readAll();
  cache.dropBelow(user.tenantId, 8n);
  asked.length = 0;
  await readAll();
  expect(asked).toEqual([7n]);
});
