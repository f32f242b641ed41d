import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { Actor } from "../../src/auth/actor.ts";
import { inTransaction } from "../../src/db/tx.ts";
import { uuidV4 } from "../../src/lib/id.ts";
import type { UserLimits } from "../../src/policy/snapshot.ts";
import { addReserve, lockQuotaRows, settleQuota } from "../../src/quota/store.ts";
import { createTestDatabase, type TestDatabase } from "../support/database.ts";
import { fillUsage, usageRow, usageRows } from "./rows.ts";
import {
  admitted,
  ample,
  ampleLimits,
  type End,
  end,
  insertRunningTurn,
  model,
  newActor,
  newChat,
  noToolCalls,
  send,
} from "./support.ts";

let database: TestDatabase;
beforeAll(async () => {
  database = await createTestDatabase();
});
afterAll(() => database.drop());

/** The columns of a row that a test is about. */
const credits = async (actor: Actor) =>
  (await usageRows(database.db, actor)).map((row) => [row.bucket, row.period, row.spent, row.reserved]);

describe("quota.md §15.3: premium closed for the day, standard used", () => {
  const price = (micro: bigint) => ({ inputMultiplierMicro: micro, outputMultiplierMicro: micro });
  const models = [
    model({ id: "P", tier: "premium", maxOutputTokens: 500, ...price(2_500_000_000n) }),
    model({ id: "S", tier: "standard", maxOutputTokens: 500, ...price(1_000_000_000n) }),
  ];
  const limits: UserLimits = {
    standard: { daily: 60_000_000n, monthly: 600_000_000n },
    premium: { daily: 22_000_000n, monthly: 300_000_000n },
  };
  const start = async () => {
    const actor = newActor();
    await fillUsage(database.db, actor, [
      { bucket: "tier:premium", period: "daily", spent: 20_000_000n },
      { bucket: "tier:premium", period: "monthly", spent: 200_000_000n },
      { bucket: "total", period: "daily", spent: 25_000_000n },
      { bucket: "total", period: "monthly", spent: 240_000_000n },
    ]);
    const sent = await send(database.db, actor, { models, limits, estimatedInputTokens: 1_000n });
    return { actor, sent };
  };

  test("steps 1–3: downgrade, with only the total rows reserved", async () => {
    const { actor, sent } = await start();
    expect(sent.decision).toMatchObject({
      kind: "downgrade",
      from: "P",
      reason: "premium_quota_exhausted",
      candidate: {
        model: { id: "S" },
        reserveTokens: 1_500n,
        maxOutputTokensApplied: 500,
        reservedCreditsMicro: 1_500_000n,
      },
    });
    expect(await credits(actor)).toEqual([
      ["total", "daily", 25_000_000n, 1_500_000n],
      ["total", "monthly", 240_000_000n, 1_500_000n],
      ["tier:premium", "daily", 20_000_000n, 0n],
      ["tier:premium", "monthly", 200_000_000n, 0n],
    ]);
  });

  test("step 4: 900 / 300 are charged, the rest flows back", async () => {
    const { actor, sent } = await start();
    const { bill } = await end(database.db, admitted(sent), {
      usage: { inputTokens: 900, outputTokens: 300 },
    });
    expect(bill.committedCreditsMicro).toBe(1_200_000n);
    expect(await credits(actor)).toEqual([
      ["total", "daily", 26_200_000n, 0n],
      ["total", "monthly", 241_200_000n, 0n],
      ["tier:premium", "daily", 20_000_000n, 0n],
      ["tier:premium", "monthly", 200_000_000n, 0n],
    ]);
    for (const period of ["daily", "monthly"] as const) {
      expect(await usageRow(database.db, actor, "total", period)).toMatchObject({
        calls: 1,
        input: 900n,
        output: 300n,
      });
      expect((await usageRow(database.db, actor, "tier:premium", period)).calls).toBe(0);
    }
  });

  test("1 000 / 500 use up the reserve", async () => {
    const { actor, sent } = await start();
    await end(database.db, admitted(sent), { usage: { inputTokens: 1_000, outputTokens: 500 } });
    expect(await usageRow(database.db, actor, "total", "daily")).toMatchObject({
      spent: 26_500_000n,
      reserved: 0n,
    });
  });

  test("multipliers of catalog scale reserve 3 750 and 1 500", async () => {
    const cheap = [
      model({ id: "P", tier: "premium", maxOutputTokens: 500, ...price(2_500_000n) }),
      model({ id: "S", tier: "standard", maxOutputTokens: 500, ...price(1_000_000n) }),
    ];
    const reserves = ["P", "S"].map(async (selectedModel) => {
      const sent = await send(database.db, newActor(), {
        models: cheap,
        selectedModel,
        estimatedInputTokens: 1_000n,
      });
      return admitted(sent).reserve.reservedCreditsMicro;
    });
    expect(await Promise.all(reserves)).toEqual([3_750n, 1_500n]);
  });
});

const premium = model({
  id: "P",
  tier: "premium",
  maxOutputTokens: 8_192,
  inputMultiplierMicro: 3_000_000n,
  outputMultiplierMicro: 15_000_000n,
});
const standard = model({ id: "S", tier: "standard", maxOutputTokens: 4_096 });

describe("quota.md §15.4: an ordinary premium turn", () => {
  const usage = { inputTokens: 900, outputTokens: 300 };

  test.each<[string, End, bigint, bigint]>([
    ["completed 900 / 300", { usage }, 7_200n, 119_310n],
    ["disconnect, no usage", { state: "cancelled" }, 4_380n, 122_130n],
    [
      "failure before the request was sent",
      { state: "failed", errorCode: "provider_error", started: false },
      0n,
      126_510n,
    ],
    [
      "orphan timeout, usage arrives late",
      { state: "failed", errorCode: "orphan_timeout", usage },
      4_380n,
      122_130n,
    ],
  ])("%s", async (_name, ending, committed, released) => {
    const actor = newActor();
    const sent = await send(database.db, actor, { models: [premium], estimatedInputTokens: 1_210n });
    const reserved = await usageRows(database.db, actor);
    expect(reserved.map((row) => row.reserved)).toEqual([126_510n, 126_510n, 126_510n, 126_510n]);
    const { anomalies } = await end(database.db, admitted(sent), ending);
    expect(anomalies).toEqual([]);
    const rows = await usageRows(database.db, actor);
    expect(rows.map((row) => [row.spent, row.reserved, row.calls])).toEqual(
      Array.from({ length: 4 }, () => [committed, 0n, 1]),
    );
    expect(126_510n - committed).toBe(released);
  });

  test("a standard turn creates no premium row", async () => {
    const actor = newActor();
    const sent = await send(database.db, actor, { models: [standard], estimatedInputTokens: 1_210n });
    await end(database.db, admitted(sent), { usage });
    expect((await usageRows(database.db, actor)).map((row) => row.bucket)).toEqual(["total", "total"]);
  });
});

test("quota.md §15.5: the candidate's own price decides", async () => {
  const actor = newActor();
  await fillUsage(database.db, actor, [{ bucket: "total", period: "daily", spent: 900_000n }]);
  const limits: UserLimits = { ...ampleLimits, standard: { daily: 1_000_000n, monthly: ample } };
  const sent = await send(database.db, actor, {
    models: [premium, standard],
    limits,
    estimatedInputTokens: 1_210n,
  });
  expect(sent.decision).toMatchObject({
    kind: "downgrade",
    reason: "premium_quota_exhausted",
    candidate: { model: { id: "S" }, reservedCreditsMicro: 13_498n },
  });
  expect(await usageRow(database.db, actor, "total", "daily")).toMatchObject({ reserved: 13_498n });
});

describe("quota.md §15.7: telemetry is never capped", () => {
  test.each([
    [9_500, 500, 11_000n],
    [10_500, 500, 12_000n],
    [10_500, 501, 18_192n],
    [11_000, 500, 18_192n],
  ])("%i / %i", async (inputTokens, outputTokens, spent) => {
    const actor = newActor();
    const sent = await send(database.db, actor, { models: [standard], estimatedInputTokens: 5_904n });
    await end(database.db, admitted(sent), { usage: { inputTokens, outputTokens } });
    expect(await usageRow(database.db, actor, "total", "daily")).toMatchObject({
      spent,
      reserved: 0n,
      input: BigInt(inputTokens),
      output: BigInt(outputTokens),
    });
  });
});

describe("quota.md §15.11: counters", () => {
  const one = { models: [premium], estimatedInputTokens: 10n };

  test("74 web searches today are read at preflight; two more make 76, in the total rows only", async () => {
    const actor = newActor();
    await fillUsage(database.db, actor, [{ bucket: "total", period: "daily", web: 74 }]);
    const sent = await send(database.db, actor, one);
    expect(sent.today.webSearchCalls).toBe(74);
    await end(database.db, admitted(sent), { tools: { webSearch: 2, codeInterpreter: 1, fileSearch: 3 } });
    const rows = await usageRows(database.db, actor);
    expect(rows.map((row) => [row.web, row.code, row.file])).toEqual([
      [76, 1, 3],
      [2, 1, 3],
      [0, 0, 0],
      [0, 0, 0],
    ]);
  });

  test("a turn stopped at its third search is estimated and counts the two completed", async () => {
    const actor = newActor();
    const sent = await send(database.db, actor, one);
    const { bill } = await end(database.db, admitted(sent), {
      state: "failed",
      errorCode: "web_search_calls_exceeded",
      tools: { webSearch: 2 },
    });
    expect(bill.method).toBe("estimated");
    expect(await usageRow(database.db, actor, "total", "daily")).toMatchObject({
      web: 2,
      input: 0n,
      output: 0n,
    });
  });

  test("48 images and two more make 50, in the total rows only", async () => {
    const actor = newActor();
    await fillUsage(database.db, actor, [{ bucket: "total", period: "daily", images: 48 }]);
    const sent = await send(database.db, actor, { ...one, images: 2 });
    expect(sent.today.imageInputs).toBe(48);
    expect((await usageRows(database.db, actor)).map((row) => row.images)).toEqual([50, 2, 0, 0]);
  });

  test("a rejected send with three images leaves the counter at 48", async () => {
    const actor = newActor();
    await fillUsage(database.db, actor, [{ bucket: "total", period: "daily", images: 48 }]);
    const closed: UserLimits = { standard: { daily: 0n, monthly: 0n }, premium: { daily: 0n, monthly: 0n } };
    const sent = await send(database.db, actor, { ...one, limits: closed, images: 3 });
    expect(sent.decision.kind).toBe("reject");
    expect((await usageRows(database.db, actor)).map((row) => row.images)).toEqual([48]);
  });

  test("a released turn keeps its image, counts the call and no tool", async () => {
    const actor = newActor();
    const sent = await send(database.db, actor, { ...one, images: 1 });
    await end(database.db, admitted(sent), {
      state: "failed",
      errorCode: "provider_error",
      started: false,
      tools: { webSearch: 2, codeInterpreter: 2, fileSearch: 2 },
    });
    expect(await usageRow(database.db, actor, "total", "daily")).toMatchObject({
      images: 1,
      calls: 1,
      web: 0,
      code: 0,
      file: 0,
    });
  });
});

describe("a row that does not hold the reserve (quota.md §7.3)", () => {
  const begin = async (tier: "premium" | "standard") => {
    const actor = newActor();
    const models = [tier === "premium" ? premium : standard];
    return {
      actor,
      turn: admitted(await send(database.db, actor, { models, estimatedInputTokens: 1_210n })),
    };
  };

  test("lost rows are written again, told, and the turn is charged", async () => {
    const { actor, turn } = await begin("premium");
    await database.db.query("delete from quota_usage where tenant_id = $1", [actor.tenantId]);
    const { anomalies, bill } = await end(database.db, turn, {
      usage: { inputTokens: 900, outputTokens: 300 },
    });
    expect(anomalies).toEqual([
      { bucket: "total", period: "daily", kind: "missing_row" },
      { bucket: "total", period: "monthly", kind: "missing_row" },
      { bucket: "tier:premium", period: "daily", kind: "missing_row" },
      { bucket: "tier:premium", period: "monthly", kind: "missing_row" },
    ]);
    const rows = await usageRows(database.db, actor);
    expect(rows.map((row) => [row.spent, row.reserved, row.calls])).toEqual(
      Array.from({ length: 4 }, () => [bill.committedCreditsMicro, 0n, 1]),
    );
  });

  test("a reserve that is too small is clamped at zero, told, and the turn is charged", async () => {
    const { actor, turn } = await begin("standard");
    await database.db.query(
      `update quota_usage set reserved_credits_micro = 1 where tenant_id = $1 and period_type = 'monthly'`,
      [actor.tenantId],
    );
    const { anomalies } = await end(database.db, turn, { usage: { inputTokens: 900, outputTokens: 300 } });
    expect(anomalies).toEqual([{ bucket: "total", period: "monthly", kind: "underflow" }]);
    expect(await credits(actor)).toEqual([
      ["total", "daily", 1_800n, 0n],
      ["total", "monthly", 1_800n, 0n],
    ]);
  });

  test("a settlement without its turn fails instead of hitting no row", async () => {
    const actor = newActor();
    const settled = inTransaction(database.db, (tx) =>
      settleQuota(tx, {
        tenantId: actor.tenantId,
        userId: actor.userId,
        turnId: uuidV4(),
        tier: "standard",
        method: "estimated",
        reservedCreditsMicro: 1n,
        committedCreditsMicro: 1n,
        inputTokens: 0n,
        outputTokens: 0n,
        toolCounts: noToolCalls,
      }),
    );
    await expect(settled).rejects.toMatchObject({ code: "23502" });
    expect(await usageRows(database.db, actor)).toEqual([]);
  });
});

test("users and tenants have rows of their own", async () => {
  const actor = newActor();
  const colleague = { ...newActor(), tenantId: actor.tenantId };
  const namesake = { ...newActor(), userId: actor.userId };
  const one = { models: [standard], estimatedInputTokens: 1_210n };
  await Promise.all([colleague, namesake].map((other) => send(database.db, other, one)));
  expect(await usageRows(database.db, actor)).toEqual([]);
  await end(database.db, admitted(await send(database.db, actor, one)));
  for (const other of [colleague, namesake]) {
    expect(await usageRow(database.db, other, "total", "daily")).toMatchObject({
      reserved: 13_498n,
      calls: 0,
    });
  }
});

test("the quota work of a turn costs no round trip of its own", async () => {
  const actor = newActor();
  const chatId = await newChat(database.db, actor);
  const id = uuidV4();
  const trips: string[] = [];
  let stage = "lock";
  database.db.onRoundTrip = () => trips.push(stage);
  await inTransaction(database.db, async (tx) => {
    const inserted = insertRunningTurn(tx, actor, { id, chatId });
    const [locked] = await Promise.all([lockQuotaRows(tx, actor, id), inserted]);
    stage = "reserve";
    const { periods } = locked;
    const added = addReserve(tx, actor, { periods, tier: "premium", reservedCreditsMicro: 5n, images: 0 });
    tx.commitNow();
    await added;
  });
  stage = "settle";
  await inTransaction(database.db, async (tx) => {
    const settled = settleQuota(tx, {
      tenantId: actor.tenantId,
      userId: actor.userId,
      turnId: id,
      tier: "premium",
      method: "estimated",
      reservedCreditsMicro: 5n,
      committedCreditsMicro: 3n,
      inputTokens: 0n,
      outputTokens: 0n,
      toolCounts: noToolCalls,
    });
    tx.commitNow();
    await settled;
  });
  database.db.onRoundTrip = undefined;
  expect(trips).toEqual(["lock", "reserve", "settle"]);
  expect((await credits(actor)).map(([, , spent, reserved]) => [spent, reserved])).toEqual(
    Array.from({ length: 4 }, () => [3n, 0n]),
  );
});
