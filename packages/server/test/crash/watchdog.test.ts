import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from "vitest";
import type { Actor } from "../../src/auth/actor.ts";
import { type Instance, renewInstance } from "../../src/db/instances.ts";
import type { Db } from "../../src/db/pool.ts";
import { uuidV4 } from "../../src/lib/id.ts";
import { createLogger } from "../../src/telemetry/log.ts";
import { createMetrics } from "../../src/telemetry/metrics.ts";
import { finalizeOrphans, type OrphanDeps } from "../../src/turns/orphans.ts";
import { insertRunningTurn, newActor, newChat, type SentTurn } from "../quota/support.ts";
import { createTestDatabase, type TestDatabase } from "../support/database.ts";
import { readWaitingUsage } from "./books.ts";
import { insertOrphan, limits, type Orphan, orphanDeps } from "./orphans.ts";
import { addWitness, holdLock, releaseLocks, waitingForLocks } from "./support.ts";

let database: TestDatabase;
let db: Db;
let deps: OrphanDeps;
let actor: Actor;
beforeAll(async () => {
  database = await createTestDatabase({ maxConnections: 20 });
  db = database.db;
  deps = await orphanDeps(db);
});
beforeEach(async () => {
  await db.query("truncate chats, quota_usage, app_instances, outbox_message cascade");
  await addWitness(db);
  actor = newActor();
});
afterEach(releaseLocks);
afterAll(() => database.drop());

const never = new AbortController().signal;
const scan = (more: Partial<OrphanDeps> = {}, signal = never) =>
  finalizeOrphans({ ...deps, ...more }, limits, signal);

const orphan = (one: Orphan): Promise<SentTurn> => insertOrphan(db, actor, one);
const stale: Orphan = { silentSecs: 301 };

const orphans = async (count: number): Promise<SentTurn[]> => {
  const turns = [];
  for (let at = 0; at < count; at += 1) turns.push(await orphan({ silentSecs: 500 - at }));
  return turns;
};

const states = async (turns: readonly SentTurn[]): Promise<string[]> => {
  const { rows } = await db.query<{ id: string; state: string }>("select id, state from chat_turns");
  const byId = new Map(rows.map(({ id, state }) => [id, state]));
  return turns.map(({ id }) => byId.get(id) ?? "gone");
};

const recordingLog = () => {
  const lines: Record<string, unknown>[] = [];
  const logger = createLogger(
    { level: "info", format: "json" },
    { version: "test", instance_id: "test", role: "all" },
    { write: (line) => void lines.push(JSON.parse(line) as Record<string, unknown>) },
  );
  return { lines, logger };
};

const account = async () =>
  (
    await db.query(
      `select
         spent_credits_micro as spent, reserved_credits_micro as reserved, calls,
         web_search_calls as web, code_interpreter_calls as code, file_search_calls as files,
         input_tokens as input, output_tokens as output
       from quota_usage
       where period_type = 'daily' and bucket = 'total' and user_id = $1`,
      [actor.userId],
    )
  ).rows[0];

/** quota.md §15.4's arithmetic at the standard price: 1 210 input, a floor of 50 output. */
const estimated = 1_210n + 150n;

describe("which turns are orphans (turns.md §12)", () => {
  test.each<[string, Orphan, boolean]>([
    ["no progress for the timeout", { silentSecs: 301 }, true],
    ["almost as long", { silentSecs: 290 }, false],
    ["as long, its owner alive", { silentSecs: 301, ownerSilentSecs: 1 }, true],
    ["owner missed its lease, no progress for 30 s", { silentSecs: 31, ownerSilentSecs: 16 }, true],
    ["owner off the list, no progress for 30 s", { silentSecs: 31, ownerSilentSecs: null }, true],
    ["owner missed its lease, progress a moment ago", { silentSecs: 25, ownerSilentSecs: 16 }, false],
    ["owner alive, no progress for 30 s", { silentSecs: 31, ownerSilentSecs: 10 }, false],
    ["no owner, no progress for 30 s", { silentSecs: 31 }, false],
    ["deleted", { silentSecs: 1_000, deleted: true }, false],
  ])("%s", async (_, one, expected) => {
    const turn = await orphan(one);
    expect(await scan()).toBe(expected ? 1 : 0);
    expect(await states([turn])).toEqual([expected ? "failed" : "running"]);
  });

  test("age alone makes none", async () => {
    const turn = await orphan({ silentSecs: 5, ownerSilentSecs: 1 });
    await db.query("update chat_turns set started_at = now() - interval '2 days'");
    expect(await scan()).toBe(0);
    expect(await states([turn])).toEqual(["running"]);
  });
});

describe("an outage of the database, in which nobody can report", () => {
  const watchdog: Instance = { id: uuidV4(), role: "all", version: "test" };
  const report = (one: Instance): Promise<void> => renewInstance(db, one, limits.leaseSecs);
  const ownerOf = async ({ id }: SentTurn): Promise<Instance> => {
    const { rows } = await db.query<{ id: string }>(
      "select owner_instance_id as id from chat_turns where id = $1",
      [id],
    );
    return { id: rows[0]?.id ?? "", role: "all", version: "test" };
  };
  const pass = async (secs: number): Promise<void> => {
    await db.query(
      `update app_instances
       set started_at = started_at - $1 * interval '1 s', last_seen_at = last_seen_at - $1 * interval '1 s'`,
      [secs],
    );
    await db.query("update chat_turns set last_progress_at = last_progress_at - $1 * interval '1 s'", [secs]);
  };

  test.each([40, 400])(
    "of %d s makes no orphan; the dead are known when the living must have told",
    async (outageSecs) => {
      await db.query("truncate app_instances");
      const live = await orphan({ silentSecs: 1, ownerSilentSecs: 1 });
      const dead = await orphan({ silentSecs: 1, ownerSilentSecs: 1 });
      const owner = await ownerOf(live);
      await report(watchdog);
      await db.query("update app_instances set started_at = now() - interval '1 hour'");
      await pass(outageSecs);
      expect(await scan()).toBe(0);
      await report(watchdog);
      expect(await scan()).toBe(0);
      for (let secs = 0; secs < limits.witnessSecs; secs += 5) {
        await report(owner);
        await db.query("update chat_turns set last_progress_at = now() where id = $1", [live.id]);
        expect(await scan()).toBe(0);
        await pass(5);
        await report(watchdog);
      }
      expect(await scan()).toBe(1);
      expect(await states([live, dead])).toEqual(["running", "failed"]);
    },
  );

  test("is told in the log while turns wait for somebody to have reported for long enough", async () => {
    await db.query("truncate app_instances");
    const { lines, logger } = recordingLog();
    expect(await scan({ logger })).toBe(0);
    expect(lines).toEqual([]);
    const turns = await orphans(2);
    expect(await scan({ logger })).toBe(0);
    expect(lines).toMatchObject([{ level: "warn", turns: 2, processing_stage: "watchdog" }]);
    await addWitness(db);
    expect(await scan({ logger })).toBe(2);
    expect(await states(turns)).toEqual(["failed", "failed"]);
  });

  test("that begins between the scan and a row spares that row", async () => {
    const [first, second] = await orphans(2);
    if (first === undefined || second === undefined) throw new Error("two turns");
    const release = await holdLock(database.url, "select from chat_turns where id = $1 for update", [
      first.id,
    ]);
    const finalized = scan();
    await waitingForLocks(db);
    await db.query("update app_instances set last_seen_at = now() - interval '8 s'");
    await release();
    expect(await finalized).toBe(1);
    expect(await states([first, second])).toEqual(["failed", "running"]);
  });
});

describe("how an orphan ends", () => {
  test("failed, estimated, without a message, its tool calls from the columns", async () => {
    const turn = await orphan({ ...stale, tools: [2, 1, 3] });
    expect(await account()).toMatchObject({ reserved: turn.reserve.reservedCreditsMicro });
    expect(await scan()).toBe(1);
    const { rows } = await db.query(
      `select state, error_code, assistant_message_id, completed_at is not null as ended, cancel_reason
       from chat_turns`,
    );
    expect(rows).toEqual([
      {
        state: "failed",
        error_code: "orphan_timeout",
        assistant_message_id: null,
        ended: true,
        cancel_reason: null,
      },
    ]);
    expect((await db.query("select from messages")).rowCount).toBe(0);
    expect(await account()).toEqual({
      spent: estimated,
      reserved: 0n,
      calls: 1,
      web: 2,
      code: 1,
      files: 3,
      input: 0n,
      output: 0n,
    });
    expect(await readWaitingUsage(db)).toMatchObject([
      {
        turn_id: turn.id,
        terminal_state: "failed",
        billing_outcome: "aborted",
        settlement_method: "estimated",
        error_code: "orphan_timeout",
        usage: null,
        actual_credits_micro: Number(estimated),
        web_search_calls: 2,
        code_interpreter_calls: 1,
        file_search_calls: 3,
        selected_model: "m",
        effective_model: "S",
      },
    ]);
  });

  test("its audit event knows neither the decision nor the usage", async () => {
    await orphan(stale);
    await scan();
    const { rows } = await db.query<{ payload: string }>(
      `select m.payload from outbox_message m join outbox_partition p on p.id = m.partition_id
       where p.queue = 'mini-chat.audit'`,
    );
    expect(rows.map(({ payload }) => JSON.parse(payload))).toMatchObject([
      {
        event_type: "turn_failed",
        error_code: "orphan_timeout",
        policy_decisions: { quota: { decision: "unknown" } },
        usage: { input_tokens: 0, output_tokens: 0 },
        latency_ms: {},
      },
    ]);
  });

  test("it is charged in the periods it started in", async () => {
    const turn = await orphan(stale);
    await db.query("update chat_turns set started_at = '2026-02-28T23:59:59.9Z'");
    await db.query(
      `update quota_usage
       set period_start = case period_type when 'daily' then date '2026-02-28' else date '2026-02-01' end`,
    );
    expect(await scan()).toBe(1);
    const { rows } = await db.query(
      `select period_type, period_start, spent_credits_micro as spent, reserved_credits_micro as reserved
       from quota_usage
       where user_id = $1
       order by period_type`,
      [turn.actor.userId],
    );
    expect(rows).toEqual([
      { period_type: "daily", period_start: "2026-02-28", spent: estimated, reserved: 0n },
      { period_type: "monthly", period_start: "2026-02-01", spent: estimated, reserved: 0n },
    ]);
  });

  test.each<[string, Orphan, string, string | null]>([
    [
      "asked to stop, owner dead",
      { silentSecs: 31, ownerSilentSecs: null, cancelRequested: true },
      "cancelled",
      null,
    ],
    [
      "asked to stop, owner dead for long",
      { silentSecs: 900, ownerSilentSecs: 900, cancelRequested: true },
      "cancelled",
      null,
    ],
    [
      "asked to stop, owner alive",
      { silentSecs: 301, ownerSilentSecs: 1, cancelRequested: true },
      "failed",
      "orphan_timeout",
    ],
  ])("%s", async (_, one, state, errorCode) => {
    await orphan(one);
    expect(await scan()).toBe(1);
    const { rows } = await db.query("select state, error_code, cancel_reason from chat_turns");
    expect(rows).toEqual([{ state, error_code: errorCode, cancel_reason: "user_stop" }]);
    expect(await readWaitingUsage(db)).toMatchObject([
      { terminal_state: state, billing_outcome: "aborted", settlement_method: "estimated", usage: null },
    ]);
    expect(await account()).toMatchObject({ spent: estimated, reserved: 0n });
  });

  test("without preflight columns nothing is settled", async () => {
    const id = uuidV4();
    await insertRunningTurn(db, actor, { id, chatId: await newChat(db, actor) });
    await db.query("update chat_turns set last_progress_at = now() - interval '301 seconds'");
    expect(await scan()).toBe(1);
    expect((await db.query("select from quota_usage")).rowCount).toBe(0);
    expect((await db.query("select state, error_code from chat_turns")).rows).toEqual([
      { state: "failed", error_code: "orphan_timeout" },
    ]);
    expect(await readWaitingUsage(db)).toMatchObject([
      {
        billing_outcome: "failed",
        settlement_method: "released",
        actual_credits_micro: 0,
        effective_model: "",
        policy_version_applied: 0,
      },
    ]);
  });

  test("a turn of a deleted chat is settled as well", async () => {
    await orphan(stale);
    await db.query("update chats set deleted_at = now()");
    expect(await scan()).toBe(1);
    expect(await account()).toMatchObject({ spent: estimated, reserved: 0n });
  });
});

describe("between the scan and a row", () => {
  /** Stops the watchdog in the transaction of the first turn; what the test does then happens meanwhile. */
  const whileAt = async (first: SentTurn, meanwhile: () => Promise<unknown>): Promise<number> => {
    const release = await holdLock(database.url, "select from chat_turns where id = $1 for update", [
      first.id,
    ]);
    const finalized = scan();
    await waitingForLocks(db);
    await meanwhile();
    await release();
    return finalized;
  };

  test.each([
    ["made progress", "update chat_turns set last_progress_at = now() where id = $1", "running"],
    ["was deleted", "update chat_turns set deleted_at = now() where id = $1", "running"],
    [
      "finished",
      "update chat_turns set state = 'cancelled', completed_at = now() where id = $1",
      "cancelled",
    ],
  ])("a turn that %s is skipped, the next one is not", async (_, change, state) => {
    const [first, moved, last] = await orphans(3);
    if (first === undefined || moved === undefined || last === undefined) throw new Error("three turns");
    expect(await whileAt(first, () => db.query(change, [moved.id]))).toBe(2);
    expect(await states([first, moved, last])).toEqual(["failed", state, "failed"]);
    expect((await readWaitingUsage(db)).map((event) => event.turn_id)).toEqual([first.id, last.id]);
  });

  test("progress that commits while the row is waited for counts", async () => {
    const [turn] = await orphans(1);
    const release = await holdLock(
      database.url,
      "update chat_turns set last_progress_at = now() where id = $1",
      [turn?.id],
    );
    const finalized = scan();
    await waitingForLocks(db);
    await release("commit");
    expect(await finalized).toBe(0);
    expect(await readWaitingUsage(db)).toEqual([]);
  });

  test("an owner that shows a sign of life keeps its turn", async () => {
    const [first] = await orphans(1);
    const mine = await orphan({ silentSecs: 31, ownerSilentSecs: 16 });
    if (first === undefined) throw new Error("one turn");
    expect(await whileAt(first, () => db.query("update app_instances set last_seen_at = now()"))).toBe(1);
    expect(await states([first, mine])).toEqual(["failed", "running"]);
  });

  test("a stop ends the scan between rows", async () => {
    const [first, ...others] = await orphans(3);
    if (first === undefined) throw new Error("three turns");
    const stop = new AbortController();
    const release = await holdLock(database.url, "select from chat_turns where id = $1 for update", [
      first.id,
    ]);
    const finalized = scan({}, stop.signal);
    await waitingForLocks(db);
    stop.abort();
    await release();
    expect(await finalized).toBe(1);
    expect(await states([first, ...others])).toEqual(["failed", "running", "running"]);
  });
});

test("at most 100 per scan, the longest silent first", async () => {
  const turns = await orphans(103);
  expect(await scan()).toBe(100);
  expect(await states(turns)).toEqual([
    ...Array.from({ length: 100 }, () => "failed"),
    ...Array.from({ length: 3 }, () => "running"),
  ]);
  expect(await scan()).toBe(3);
  expect(await readWaitingUsage(db)).toHaveLength(103);
  expect(await account()).toMatchObject({ reserved: 0n, calls: 103 });
});

test("a row that fails does not stop the scan, and is logged by its id", async () => {
  const [good, bad, other] = await orphans(3);
  await db.query(
    `create function test_refuse() returns trigger language plpgsql as $$ begin raise 'refused'; end $$;
     create trigger test_refuse before update on chat_turns
     for each row when (old.id = '${bad?.id}') execute function test_refuse()`,
  );
  const { lines, logger } = recordingLog();
  try {
    expect(await scan({ logger })).toBe(2);
  } finally {
    await db.query("drop function test_refuse cascade");
  }
  expect(lines.filter(({ level }) => level === "error")).toMatchObject([
    { turn_id: bad?.id, chat_id: bad?.chatId, tenant_id: actor.tenantId, request_id: expect.anything() },
  ]);
  expect((await readWaitingUsage(db)).map((event) => event.turn_id)).toEqual([good?.id, other?.id]);
  expect(await scan()).toBe(1);
});

test("100 rows that fail for ever do not keep the others from being finalized", async () => {
  const bad = await orphans(101);
  const good = await orphan(stale);
  const ids = bad.map(({ id }) => `'${id}'`).join();
  await db.query(
    `create function test_refuse() returns trigger language plpgsql as $$ begin raise 'refused'; end $$;
     create trigger test_refuse before update on chat_turns
     for each row when (old.id in (${ids})) execute function test_refuse()`,
  );
  const failing = new Set<string>();
  try {
    expect(await scan({ failing })).toBe(0);
    expect(await scan({ failing })).toBe(1);
    expect(await states([good])).toEqual(["failed"]);
    const another = await orphan(stale);
    expect(await scan({ failing })).toBe(1);
    expect(await states([another])).toEqual(["failed"]);
    expect(failing.size).toBe(101);
  } finally {
    await db.query("drop function test_refuse cascade");
  }
  expect(await scan({ failing })).toBe(100);
  expect(await scan({ failing })).toBe(1);
  expect(failing).toEqual(new Set());
});

test("two scans at once finalize every turn once (§23.4)", async () => {
  const turns = await orphans(40);
  const counts = await Promise.all([scan(), scan(), scan()]);
  expect(counts.reduce((sum, count) => sum + count)).toBe(40);
  const events = await readWaitingUsage(db);
  expect(new Set(events.map((event) => event.turn_id))).toEqual(new Set(turns.map(({ id }) => id)));
  expect(events).toHaveLength(40);
  expect(await account()).toMatchObject({ spent: 40n * estimated, reserved: 0n, calls: 40 });
});

test("the end of a turn is logged with all that leads to it (ops.md §6)", async () => {
  const turn = await orphan(stale);
  const { rows } = await db.query<{ request_id: string }>("select request_id from chat_turns");
  const { lines, logger } = recordingLog();
  await scan({ logger });
  expect(lines).toMatchObject([
    {
      msg: "orphaned turn finalized",
      level: "warn",
      tenant_id: actor.tenantId,
      user_id: actor.userId,
      requester_type: "user",
      chat_id: turn.chatId,
      turn_id: turn.id,
      request_id: rows[0]?.request_id,
      processing_stage: "watchdog",
      state: "failed",
      error_code: "orphan_timeout",
      model: "S",
      settlement_method: "estimated",
      reason: "stale_progress",
    },
  ]);
});

test("candidates and ends are counted by reason", async () => {
  await orphan(stale);
  await orphan({ silentSecs: 31, ownerSilentSecs: null });
  await orphan({ silentSecs: 31, ownerSilentSecs: null, cancelRequested: true });
  const metrics = createMetrics("t");
  expect(await scan({ metrics })).toBe(3);
  const text = await metrics.render();
  for (const line of [
    't_orphan_detected_total{reason="stale_progress"} 1',
    't_orphan_detected_total{reason="dead_owner"} 2',
    't_orphan_finalized_total{reason="stale_progress"} 1',
    't_orphan_finalized_total{reason="dead_owner"} 2',
    't_streams_aborted_total{trigger="orphan_timeout"} 3',
    't_stream_failed_total{provider="openai",model="S",error_code="orphan_timeout"} 2',
    "t_orphan_scan_duration_seconds_count 1",
  ]) {
    expect(text).toContain(line);
  }
});
