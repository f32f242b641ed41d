import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { Actor } from "../../src/auth/actor.ts";
import { createAuthorizer } from "../../src/auth/authorize.ts";
import { AppError } from "../../src/errors.ts";
import type { UserLimits } from "../../src/policy/snapshot.ts";
import { nextReset } from "../../src/quota/periods.ts";
import { registerQuotaRoutes } from "../../src/quota/routes.ts";
import { quotaStatus, quotaWarnings, readQuotaStatus, readQuotaWarnings } from "../../src/quota/status.ts";
import { type CurrentUsage, readCurrentUsage } from "../../src/quota/status-store.ts";
import { bearer, testServer } from "../http/support.ts";
import { createTestDatabase, type TestDatabase } from "../support/database.ts";
import { fillUsage } from "./rows.ts";
import { model, newActor, send, snapshotOf } from "./support.ts";

const usageOf = (spent: bigint, reserved = 0n): CurrentUsage => {
  const balance = { spentCreditsMicro: spent, reservedCreditsMicro: reserved };
  return {
    periods: { daily: "2026-02-28", monthly: "2026-02-01" },
    balances: {
      total: { daily: balance, monthly: balance },
      premium: { daily: balance, monthly: balance },
    },
  };
};
const same = (limit: bigint): UserLimits => ({
  standard: { daily: limit, monthly: limit },
  premium: { daily: limit, monthly: limit },
});

describe("quota.md §15.10: status of a limit of 100 000 000, threshold 80", () => {
  test.each([
    [0n, 100_000_000n, 100, false, false],
    [1n, 99_999_999n, 99, false, false],
    [79_000_000n, 21_000_000n, 21, false, false],
    [79_000_001n, 20_999_999n, 20, true, false],
    [99_000_000n, 1_000_000n, 1, true, false],
    [99_000_001n, 999_999n, 0, true, true],
    [105_000_000n, 0n, 0, true, true],
  ])("%i used", (used, remaining, percentage, warning, exhausted) => {
    // Settled or reserved: both are used.
    for (const usage of [usageOf(used), usageOf(0n, used), usageOf(used / 2n, used - used / 2n)]) {
      const status = quotaStatus(same(100_000_000n), usage, 80);
      expect(status.tiers.flatMap(({ periods }) => periods)).toEqual(
        ["2026-03-01T00:00:00Z", "2026-03-01T00:00:00Z"].flatMap(() =>
          (["daily", "monthly"] as const).map((period) => ({
            period,
            limit_credits_micro: 100_000_000n,
            used_credits_micro: used,
            remaining_credits_micro: remaining,
            remaining_percentage: percentage,
            next_reset: "2026-03-01T00:00:00Z",
            warning,
            exhausted,
          })),
        ),
      );
    }
  });

  test.each([
    [1, 1n, 99, true],
    [1, 0n, 100, false],
    [99, 98n, 2, false],
    [99, 99n, 1, true],
  ])("the warning starts at 100 − threshold: %i, %i used", (threshold, used, percentage, warning) => {
    const [premium] = quotaStatus(same(100n), usageOf(used), threshold).tiers;
    expect(premium?.periods[0]).toMatchObject({ remaining_percentage: percentage, warning });
  });

  test("a closed period is left out, its tier stays; premium comes before total", () => {
    const limits: UserLimits = { standard: { daily: 0n, monthly: 10n }, premium: { daily: 0n, monthly: 0n } };
    const { tiers } = quotaStatus(limits, usageOf(0n), 80);
    expect(tiers.map(({ tier, periods }) => [tier, periods.map(({ period }) => period)])).toEqual([
      ["premium", []],
      ["total", ["monthly"]],
    ]);
  });

  test("amounts beyond 2^53 stay exact", () => {
    const limit = 2n ** 53n - 1n;
    const [premium] = quotaStatus(same(limit), usageOf(2n ** 60n), 80).tiers;
    expect(premium?.periods[0]).toMatchObject({
      used_credits_micro: 2n ** 60n,
      remaining_credits_micro: 0n,
      exhausted: true,
    });
  });
});

test("warnings are the status flattened, with the reset where there is something to wait for (quota.md §11)", () => {
  const limits: UserLimits = {
    standard: { daily: 1_000n, monthly: 100n },
    premium: { daily: 0n, monthly: 90n },
  };
  const entry = { warning: true, exhausted: false, next_reset: "2026-03-01T00:00:00Z" };
  expect(quotaWarnings(quotaStatus(limits, usageOf(90n), 80))).toEqual([
    { tier: "premium", period: "monthly", remaining_percentage: 0, ...entry, exhausted: true },
    { tier: "total", period: "daily", remaining_percentage: 91, warning: false, exhausted: false },
    { tier: "total", period: "monthly", remaining_percentage: 10, ...entry },
  ]);
});

let database: TestDatabase;
beforeAll(async () => {
  database = await createTestDatabase();
});
afterAll(() => database.drop());

const limits: UserLimits = {
  standard: { daily: 1_000_000n, monthly: 9_007_199_254_740_991n },
  premium: { daily: 50_000_000n, monthly: 0n },
};

const depsOf = (resolve: () => Promise<UserLimits>) => ({
  db: database.db,
  policy: { resolve: async () => ({ version: 1n, snapshot: snapshotOf([]), limits: await resolve() }) },
  warningThresholdPct: 80,
});
const deps = () => depsOf(async () => limits);

const getStatus = async (
  actor: Actor,
  {
    resolve = async () => limits,
    headers = bearer,
  }: { resolve?: () => Promise<UserLimits>; headers?: object } = {},
) => {
  const authorizer = createAuthorizer({ mode: "static", timeout_ms: 1_000 });
  const { app } = testServer(
    (api) => registerQuotaRoutes(api, { ...depsOf(resolve), authorizer }),
    {},
    { authenticator: { authenticate: async (header) => authenticated(header, actor) } },
  );
  const answer = await app.inject({ method: "GET", url: "/v1/quota/status", headers: { ...headers } });
  await app.close();
  return answer;
};

const authenticated = (header: string | undefined, actor: Actor): Actor => {
  if (header === undefined) throw new AppError("unauthorized", { detail: "no token" });
  return actor;
};

const today = async () => (await readCurrentUsage(database.db, newActor())).periods;

describe("GET /v1/quota/status", () => {
  test("tells spent and reserved as used, as bare integers", async () => {
    const actor = newActor();
    await fillUsage(database.db, actor, [
      { bucket: "total", period: "daily", spent: 700_000n, reserved: 126_510n },
      { bucket: "total", period: "monthly", spent: 9_007_199_254_740_990n },
      { bucket: "tier:premium", period: "daily", reserved: 126_510n },
    ]);
    const answer = await getStatus(actor);
    const { daily, monthly } = await today();
    expect(answer.statusCode).toBe(200);
    expect(answer.body).toContain('"used_credits_micro":9007199254740990,');
    expect(answer.json()).toEqual({
      warning_threshold_pct: 80,
      tiers: [
        {
          tier: "premium",
          periods: [
            {
              period: "daily",
              limit_credits_micro: 50_000_000,
              used_credits_micro: 126_510,
              remaining_credits_micro: 49_873_490,
              remaining_percentage: 99,
              next_reset: nextReset("daily", daily),
              warning: false,
              exhausted: false,
            },
          ],
        },
        {
          tier: "total",
          periods: [
            {
              period: "daily",
              limit_credits_micro: 1_000_000,
              used_credits_micro: 826_510,
              remaining_credits_micro: 173_490,
              remaining_percentage: 17,
              next_reset: nextReset("daily", daily),
              warning: true,
              exhausted: false,
            },
            {
              period: "monthly",
              limit_credits_micro: 9_007_199_254_740_991,
              used_credits_micro: 9_007_199_254_740_990,
              remaining_credits_micro: 1,
              remaining_percentage: 0,
              next_reset: nextReset("monthly", monthly),
              warning: true,
              exhausted: true,
            },
          ],
        },
      ],
    });
  });

  test("reads the rows of the current day and month of the caller alone", async () => {
    const actor = newActor();
    const others = [
      { ...newActor(), tenantId: actor.tenantId },
      { ...newActor(), userId: actor.userId },
    ];
    for (const other of others) {
      await fillUsage(database.db, other, [{ bucket: "total", period: "daily", spent: 7n }]);
    }
    await fillUsage(database.db, actor, [
      { bucket: "total", period: "daily", spent: 7n, at: "2026-01-15T00:00:00Z" },
      { bucket: "total", period: "monthly", spent: 7n, at: "2026-01-15T00:00:00Z" },
    ]);
    const used = (await readQuotaStatus(deps(), actor)).tiers.flatMap(({ periods }) =>
      periods.map((period) => period.used_credits_micro),
    );
    expect(used).toEqual([0n, 0n, 0n]);
  });

  test("shows a reserve as soon as it is committed", async () => {
    const actor = newActor();
    await send(database.db, actor, {
      models: [model({ id: "S", tier: "standard" })],
      estimatedInputTokens: 1_210n,
    });
    expect(await readQuotaWarnings(deps(), actor)).toEqual([
      { tier: "premium", period: "daily", remaining_percentage: 100, warning: false, exhausted: false },
      { tier: "total", period: "daily", remaining_percentage: 98, warning: false, exhausted: false },
      { tier: "total", period: "monthly", remaining_percentage: 99, warning: false, exhausted: false },
    ]);
  });

  test("needs a token", async () => {
    expect((await getStatus(newActor(), { headers: {} })).statusCode).toBe(401);
  });

  test("needs the permission to read", async () => {
    const answer = await getStatus({ ...newActor(), scopes: ["ai:mini_chat:write"] });
    expect([answer.statusCode, answer.json().code]).toEqual([403, "forbidden"]);
    expect((await getStatus({ ...newActor(), scopes: ["ai:mini_chat:read"] })).statusCode).toBe(200);
  });

  test("is 503 while the policy is not available", async () => {
    const resolve = async () => {
      throw new AppError("service_unavailable", { detail: "The policy is not available." });
    };
    const answer = await getStatus(newActor(), { resolve });
    expect([answer.statusCode, answer.json().code]).toEqual([503, "service_unavailable"]);
  });
});
