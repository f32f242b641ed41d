import type { PoolClient } from "pg";
import { afterAll, beforeAll, beforeEach, describe, expect, test } from "vitest";
import type { Actor } from "../../src/auth/actor.ts";
import type { Db } from "../../src/db/pool.ts";
import { inTransaction } from "../../src/db/tx.ts";
import { uuidV4 } from "../../src/lib/id.ts";
import type { UserLimits } from "../../src/policy/snapshot.ts";
import { lockQuotaRows } from "../../src/quota/store.ts";
import { createTestDatabase, type TestDatabase } from "../support/database.ts";
import { fillUsage, usageRow, usageRows } from "./rows.ts";
import {
  admitted,
  ample,
  ampleLimits,
  end,
  eventually,
  insertRunningTurn,
  model,
  newActor,
  newChat,
  type Send,
  type Sent,
  send,
} from "./support.ts";

let database: TestDatabase;
let db: Db;
let actor: Actor;
beforeAll(async () => {
  database = await createTestDatabase({ maxConnections: 60 });
  db = database.db;
});
beforeEach(() => {
  actor = newActor();
});
afterAll(() => database.drop());

const standard = model({ id: "S", tier: "standard" });
const premium = model({ id: "P", tier: "premium" });
/** A reserve of 13 498 micro-credits. */
const message: Send = { models: [standard], estimatedInputTokens: 1_210n };
const dailyLimit = (daily: bigint): UserLimits => ({ ...ampleLimits, standard: { daily, monthly: ample } });

const sendAtOnce = (count: number, one: Send): Promise<Sent[]> =>
  Promise.all(Array.from({ length: count }, () => send(db, actor, one)));

const kinds = (sent: readonly Sent[]) => sent.map(({ decision }) => decision.kind).sort();

describe("quota.md §15.6: parallel sends", () => {
  test.each([
    [20_000n, 2, 1, 13_498n],
    [100_000n, 20, 7, 94_486n],
    [13_498n, 1, 1, 13_498n],
  ])("a daily limit of %i and %i sends admit %i", async (limit, sends, admittedSends, reserved) => {
    const sent = await sendAtOnce(sends, { ...message, limits: dailyLimit(limit) });
    expect(kinds(sent)).toEqual([
      ...Array.from({ length: admittedSends }, () => "allow"),
      ...Array.from({ length: sends - admittedSends }, () => "reject"),
    ]);
    expect(await usageRow(db, actor, "total", "daily")).toMatchObject({ reserved, spent: 0n });
    expect(await usageRow(db, actor, "total", "monthly")).toMatchObject({ reserved, spent: 0n });
  });

  test("one micro-credit short admits nothing and leaves no row, turn or reserve behind", async () => {
    const [sent] = await sendAtOnce(1, { ...message, limits: dailyLimit(13_497n) });
    expect(sent?.decision.kind).toBe("reject");
    expect(await usageRows(db, actor)).toEqual([]);
    const turns = await db.query("select id from chat_turns where tenant_id = $1", [actor.tenantId]);
    expect(turns.rows).toEqual([]);
  });

  test("what a settlement frees admits the next", async () => {
    const one = { ...message, limits: dailyLimit(20_000n) };
    const turn = admitted(await send(db, actor, one));
    expect((await send(db, actor, one)).decision.kind).toBe("reject");
    const { bill } = await end(db, turn, { usage: { inputTokens: 1_000, outputTokens: 200 } });
    expect(bill.committedCreditsMicro).toBe(1_600n);
    expect((await send(db, actor, one)).decision.kind).toBe("allow");
    expect(await usageRow(db, actor, "total", "daily")).toMatchObject({ spent: 1_600n, reserved: 13_498n });
  });

  test("parallel premium sends fill the premium bucket exactly, the rest are downgraded", async () => {
    const limits: UserLimits = { ...ampleLimits, premium: { daily: 50_000n, monthly: ample } };
    const sent = await sendAtOnce(10, { ...message, models: [premium, standard], limits });
    expect(kinds(sent).filter((kind) => kind === "allow")).toHaveLength(3);
    expect(kinds(sent).filter((kind) => kind === "downgrade")).toHaveLength(7);
    expect(await usageRow(db, actor, "tier:premium", "daily")).toMatchObject({ reserved: 40_494n });
    expect(await usageRow(db, actor, "total", "daily")).toMatchObject({ reserved: 134_980n });
  });
});

// Deadlocks are not retried by `send` and `end`: one would fail the test.
test("50 reserves and settlements at once, of both tiers and across a day's end, never deadlock", async () => {
  const days = ["2026-05-20T23:59:59Z", "2026-05-21T00:00:01Z"];
  const message = (index: number): Send => ({
    models: [index % 3 === 0 ? premium : standard],
    estimatedInputTokens: 1_210n,
    startedAt: days[index % 2] ?? "",
  });
  const running = await Promise.all(
    Array.from({ length: 25 }, async (_, index) => admitted(await send(db, actor, message(index)))),
  );
  const [settled, sent] = await Promise.all([
    Promise.all(running.map((turn) => end(db, turn, { usage: { inputTokens: 10, outputTokens: 10 } }))),
    Promise.all(Array.from({ length: 25 }, (_, index) => send(db, actor, message(index)))),
  ]);
  expect(settled.flatMap(({ anomalies }) => anomalies)).toEqual([]);
  expect(await usageRow(db, actor, "total", "monthly")).toMatchObject({
    spent: 25n * 40n,
    reserved: 25n * 13_498n,
    calls: 25,
  });
  await Promise.all(sent.map((one) => end(db, admitted(one))));
  const rows = await usageRows(db, actor);
  expect(rows.map((row) => row.reserved)).toEqual(rows.map(() => 0n));
});

describe("rows are locked one after the other, total daily first (quota.md §6.6)", () => {
  const at = "2026-05-20T12:00:00Z";
  const places = [
    ["total", "daily"],
    ["total", "monthly"],
    ["tier:premium", "daily"],
    ["tier:premium", "monthly"],
  ] as const;
  type Place = (typeof places)[number];

  // Later places come first in the table, so that a scan without an order would lock them first.
  const fillBackwards = () =>
    fillUsage(
      db,
      actor,
      places.toReversed().map(([bucket, period]) => ({ bucket, period, at, reserved: 1_000_000n })),
    );

  const lock = (mode: string) => `
    select id
    from quota_usage
    where tenant_id = $1 and user_id = $2 and bucket = $3 and period_type = $4
    for update ${mode}`;

  /** Those of the given rows that somebody holds. */
  const heldOf = async (of: readonly Place[]): Promise<Place[]> => {
    const held = [];
    for (const place of of) {
      const free = await db.query(lock("skip locked"), [actor.tenantId, actor.userId, ...place]);
      if (free.rowCount === 0) held.push(place);
    }
    return held;
  };

  const untilSomebodyWaitsFor = async (holder: PoolClient): Promise<void> => {
    const { rows } = await holder.query<{ pid: number }>("select pg_backend_pid() as pid");
    await eventually(async () => {
      const waiting = await db.query(
        "select pid from pg_stat_activity where $1 = any(pg_blocking_pids(pid))",
        [rows[0]?.pid],
      );
      return waiting.rowCount > 0;
    });
  };

  /** Runs `work` against a held row and tells which later rows it had locked by the time it waited. */
  const lockedWhileWaitingAt = async (place: number, work: () => Promise<unknown>): Promise<Place[]> => {
    const holder = await db.connect();
    await holder.query("begin");
    await holder.query(lock(""), [actor.tenantId, actor.userId, ...(places[place] ?? [])]);
    const done = work();
    await untilSomebodyWaitsFor(holder);
    const held = await heldOf(places.slice(place + 1));
    await holder.query("rollback");
    holder.release();
    await done;
    return held;
  };

  test.each([0, 1])("a reserve that waits at row %i holds none behind it", async (place) => {
    await fillBackwards();
    const chatId = await newChat(db, actor);
    const reserve = () =>
      inTransaction(db, async (tx) => {
        const id = uuidV4();
        await Promise.all([
          insertRunningTurn(tx, actor, { id, chatId, startedAt: at }),
          lockQuotaRows(tx, actor, id),
        ]);
      });
    expect(await lockedWhileWaitingAt(place, reserve)).toEqual([]);
  });

  test("the first reserve of a period creates its rows in that order too", async () => {
    const chatId = await newChat(db, actor);
    const insertAs = (period: string) => `
      insert into quota_usage (tenant_id, user_id, period_type, period_start, bucket)
      values ($1, $2, '${period}', '2026-05-${period === "daily" ? 20 : "01"}', 'total')`;
    const holder = await db.connect();
    await holder.query("begin");
    await holder.query(insertAs("daily"), [actor.tenantId, actor.userId]);
    const reserved = inTransaction(db, async (tx) => {
      const id = uuidV4();
      await Promise.all([
        insertRunningTurn(tx, actor, { id, chatId, startedAt: at }),
        lockQuotaRows(tx, actor, id),
      ]);
    });
    await untilSomebodyWaitsFor(holder);
    // Would wait for the reserve if that had its monthly row already.
    await holder.query("set local lock_timeout = 100");
    await holder.query(insertAs("monthly"), [actor.tenantId, actor.userId]);
    await holder.query("rollback");
    holder.release();
    await reserved;
  });

  test.each([0, 1, 2, 3])("a settlement that waits at row %i holds none behind it", async (place) => {
    await fillBackwards();
    const one = { models: [premium], estimatedInputTokens: 1_210n, startedAt: at };
    const turn = admitted(await send(db, actor, one));
    expect(await lockedWhileWaitingAt(place, () => end(db, turn))).toEqual([]);
  });

  test.each([2, 3])("a premium reserve that waits at row %i holds none behind it", async (place) => {
    await fillBackwards();
    const one = { models: [premium], estimatedInputTokens: 1_210n, startedAt: at };
    expect(await lockedWhileWaitingAt(place, () => send(db, actor, one))).toEqual([]);
  });

  test("a reserve that had to wait sees what was committed meanwhile, in both buckets", async () => {
    await fillBackwards();
    const one = { models: [premium], estimatedInputTokens: 1_210n, startedAt: at };
    // Premium is full with one more reserve: the second must not decide on the snapshot before its wait.
    const limits: UserLimits = { ...ampleLimits, premium: { daily: 1_013_498n, monthly: ample } };
    const sent = await sendAtOnce(5, { ...one, limits });
    expect(kinds(sent)).toEqual(["allow", "reject", "reject", "reject", "reject"]);
  });
});
