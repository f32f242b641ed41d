import { setImmediate } from "node:timers/promises";
import fc from "fast-check";
import { afterAll, beforeAll, expect, test } from "vitest";
import { asTenantId } from "../../src/auth/actor.ts";
import { uuidV4 } from "../../src/lib/id.ts";
import { InvalidSnapshotError, PolicyPluginError } from "../../src/policy/plugin.ts";
import { createTestDatabase, type TestDatabase } from "../support/database.ts";
import { fakeSource, user as someUser, testService, versionSnapshot } from "./support.ts";

let database: TestDatabase;
beforeAll(async () => {
  database = await createTestDatabase();
});
afterAll(() => database.drop());

type Step =
  | { readonly do: "latest"; readonly version: bigint }
  | { readonly do: "notify"; readonly version: bigint }
  | { readonly do: "advance"; readonly secs: number }
  | { readonly do: "break"; readonly broken: boolean }
  | { readonly do: "answer" }
  | { readonly do: "resolve" };

const version = fc.bigInt({ min: 1n, max: 12n });
const step: fc.Arbitrary<Step> = fc.oneof(
  fc.record({ do: fc.constant("latest" as const), version }),
  fc.record({ do: fc.constant("notify" as const), version }),
  fc.record({ do: fc.constant("advance" as const), secs: fc.constantFrom(1, 31, 200, 901) }),
  fc.record({ do: fc.constant("break" as const), broken: fc.boolean() }),
  { weight: 4, arbitrary: fc.record({ do: fc.constant("answer" as const) }) },
  { weight: 4, arbitrary: fc.record({ do: fc.constant("resolve" as const) }) },
);

test("whatever the plugin announces in whatever order, no request sees a version go back", async () => {
  const invalid = (v: bigint): boolean => v % 5n === 0n;
  let answered = 0;
  await fc.assert(
    fc.asyncProperty(
      fc.array(step, { maxLength: 60, size: "max" }),
      fc.scheduler(),
      async (steps, scheduler) => {
        const source = fakeSource({ stableVersions: false, latest: 3n });
        for (let v = 5n; v <= 12n; v += 5n) {
          source.snapshots.set(v, () => {
            throw new InvalidSnapshotError([]);
          });
        }
        const { service, clock } = testService(database.db, {
          ...source,
          getCurrentPolicyVersion: async (ctx) => {
            await scheduler.schedule(Promise.resolve(), "version");
            return source.getCurrentPolicyVersion(ctx);
          },
          getPolicySnapshot: async (ctx, asked) => {
            await scheduler.schedule(Promise.resolve(), `snapshot ${asked}`);
            return source.getPolicySnapshot(ctx, asked);
          },
        });
        const user = { ...someUser, tenantId: asTenantId(uuidV4()) };
        let highest = 0n;
        const running: Promise<void>[] = [];
        for (const one of steps) {
          if (one.do === "latest") source.latest = one.version;
          if (one.do === "advance") clock.advance(one.secs);
          if (one.do === "break")
            source.failure = one.broken ? new PolicyPluginError("internal", "down") : null;
          if (one.do === "notify") running.push(service.notify(user.tenantId, one.version));
          if (one.do === "resolve") {
            const began = highest;
            running.push(
              service.resolve(user).then(
                (policy) => {
                  answered += 1;
                  expect(policy.version).toBeGreaterThanOrEqual(began);
                  expect(invalid(policy.version)).toBe(false);
                  expect(policy.snapshot).toEqual(versionSnapshot(policy.version));
                  if (policy.version > highest) highest = policy.version;
                },
                (error: unknown) => expect(error).toMatchObject({ code: "service_unavailable" }),
              ),
            );
          }
          // One call of the plugin, any of those under way, gets its answer.
          if (one.do === "answer" && scheduler.count() > 0) await scheduler.waitOne();
          await setImmediate();
        }
        const all = Promise.all(running);
        await scheduler.waitFor(all);
      },
    ),
    { numRuns: 200 },
  );
  // Were every request refused, the property would hold for nothing.
  expect(answered).toBeGreaterThan(100);
});
