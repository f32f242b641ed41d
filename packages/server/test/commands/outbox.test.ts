import { chmodSync, mkdtempSync, readdirSync, rmSync } from "node:fs";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { DirectConnection } from "../../src/db/direct.ts";
import { startEmbedded } from "../../src/db/embedded.ts";
import { migrate } from "../../src/db/migrate.ts";
import { holdLock, waitingForLocks } from "../crash/support.ts";
import { deadRows, insertDead, letDie } from "../outbox/dead-support.ts";
import {
  countRows,
  enqueueNumbers,
  eventually,
  freshOutbox,
  ownOutboxes,
  recorder,
  serving,
  tenantOf,
  testConfig,
} from "../outbox/support.ts";
import { createTestDatabase, type TestDatabase } from "../support/database.ts";
import { type CommandLine, commandLine, runCommand } from "./support.ts";

/** The queues of the outbox these tests run beside. */
const { notify: _, ...outbox } = testConfig;

let database: TestDatabase;
let cli: CommandLine;
beforeAll(async () => {
  database = await createTestDatabase();
  cli = commandLine(database.url, { outbox: { ...outbox, retry_base_ms: 1_000, retry_max_ms: 60_000 } });
});
afterAll(async () => {
  cli.remove();
  await database.drop();
});
const { outboxOf, stopAll } = ownOutboxes(() => database.db);
beforeEach(async () => {
  await outboxOf();
  await freshOutbox(database.db);
  await database.db.query("truncate outbox_dead restart identity");
});
afterEach(stopAll);

const payloadOfSeven = /"web_search_calls": 7/;

describe("dead list, count and show", () => {
  test("tell people what died of what, without payloads", async () => {
    const tenantId = tenantOf(1);
    await letDie(database.db, tenantId, [7], "the sink\n\u001b[31manswered 400");
    const { code, stdout, stderr } = await cli.run("outbox", "dead", "list");
    expect([code, stderr]).toEqual([0, ""]);
    const [head, line, ...rest] = stdout.trimEnd().split("\n");
    expect(head).toMatch(/^ID +STATUS +QUEUE +TENANT +FAILED AT +ATTEMPTS +FINGERPRINT +ERROR$/);
    expect(line).toMatch(
      new RegExp(`^ 1 +pending +usage +${tenantId} +\\S+Z +1 +[0-9a-f]{32} +the sink \\[31manswered 400$`),
    );
    expect(rest).toEqual([]);
    const shown = await cli.run("outbox", "dead", "show", "1");
    expect(shown.stdout).toMatch(/^id +1$/m);
    expect(shown.stdout).toMatch(/payload +hidden/);
    for (const text of [stdout, shown.stdout]) {
      expect(text).not.toContain("\u001b");
      expect(text).not.toMatch(payloadOfSeven);
    }
  });

  test("show payloads when asked", async () => {
    await letDie(database.db, tenantOf(1), [7]);
    for (const args of [["list"], ["show", "1"]]) {
      expect((await cli.run("outbox", "dead", ...args, "--payload")).stdout).toMatch(payloadOfSeven);
    }
    expect(await cli.json("outbox", "dead", "list", "--payload")).toMatchObject({
      items: [{ id: 1, payload: expect.stringContaining('"web_search_calls":7') }],
      more: false,
    });
  });

  test("are filtered; a queue goes by its kind as well", async () => {
    await insertDead(database.db, [{}, { queue: "audit", kind: "audit" }, { status: "resolved" }]);
    const ids = async (...args: string[]) => {
      const { items } = (await cli.json("outbox", "dead", "list", ...args)) as { items: { id: number }[] };
      return items.map(({ id }) => id);
    };
    expect(await ids("--queue", "audit")).toEqual([2]);
    expect(await ids("--status", "all", "--kind", "usage")).toEqual([3, 1]);
    const { stdout } = await cli.run("outbox", "dead", "count");
    expect(stdout).toMatch(/^2 in all$/m);
    expect(await cli.json("outbox", "dead", "count", "--queue=usage")).toMatchObject({
      count: 1,
      groups: [{ queue: "usage", count: 1, error: "boom" }],
    });
  });

  test("say when there is more, or nothing", async () => {
    await insertDead(database.db, [{}, {}]);
    const { stderr } = await cli.run("outbox", "dead", "list", "--limit", "1");
    expect(stderr).toMatch(/more than 1; --limit/);
    expect((await cli.run("outbox", "dead", "list", "--status", "discarded")).stdout).toBe(
      "no dead letters\n",
    );
  });

  test("of one that does not exist end with 1", async () => {
    const { code, stderr } = await cli.start("outbox", "dead", "show", "404");
    expect([code, stderr]).toEqual([1, "mini-chat: there is no dead letter 404\n"]);
  });
});

describe("dead requeue", () => {
  test("wakes a worker of another process, which delivers it", async () => {
    await letDie(database.db, tenantOf(1), [7]);
    const [before] = await deadRows(database.db);
    const direct = new DirectConnection({ url: database.url });
    await direct.start();
    try {
      // The poll is far away: only the notification can wake it.
      const worker = await outboxOf({ direct, config: { notify: true, poll_interval_ms: 60_000 } });
      const { seen, handler, until } = recorder();
      await worker.start(serving({ usage: handler }));
      const { code, stdout, stderr } = await cli.run("outbox", "dead", "requeue", "1", "--actor", "ann");
      expect([code, stdout]).toEqual([0, "requeued 1 dead letters\n"]);
      await until((all) => all.length === 1);
      expect(seen[0]?.messageId).toBe(before?.message_id);
      expect(JSON.parse(stderr)).toMatchObject({
        msg: "dead letters requeued",
        actor: "ann",
        dead_letter_ids: ["1"],
        message_ids: [before?.message_id],
      });
    } finally {
      await stopAll();
      await direct.stop();
    }
  });

  test("by two operators at once happens once, and the second is told", async () => {
    await letDie(database.db, tenantOf(1), [1, 2, 3]);
    const both = await Promise.all([1, 2].map(() => cli.start("outbox", "dead", "requeue", "1", "2", "3")));
    expect(await countRows(database.db, "outbox_message")).toBe(3);
    expect((await deadRows(database.db)).map((row) => row.replay_count)).toEqual([1, 1, 1]);
    expect(both.map(({ code }) => code).toSorted()).toEqual([0, 1]);
    const told = both.map(({ stdout }) => stdout).join("");
    expect(told).toContain("requeued 3 dead letters");
    expect(told).toContain("left 2 alone: it is resolved");
  });

  test("of a process that is killed on the way leaves a letter waiting, or requeued, never in between", async () => {
    await letDie(database.db, tenantOf(1), [1, 2]);
    // It gets as far as to its second letter, with the first one requeued in its open transaction.
    const release = await holdLock(database.url, "select from outbox_dead where id = 2 for update");
    const killed = new AbortController();
    const ran = cli.startMortal(killed.signal, "outbox", "dead", "requeue", "1", "2");
    await waitingForLocks(database.db);
    killed.abort();
    expect((await ran).code).toBeNull();
    await release();
    const { stdout } = await cli.run("outbox", "dead", "requeue", "--all");
    expect(stdout).toBe("requeued 2 dead letters\n");
    expect(await countRows(database.db, "outbox_message")).toBe(2);
    expect((await deadRows(database.db)).map((row) => row.replay_count)).toEqual([1, 1]);
  });

  test("of all that fit tells its progress on standard error", async () => {
    await database.db.query(
      `insert into outbox_dead (queue, partition_id, message_id, tenant_id, order_key, kind, payload, created_at,
         attempts, error, fingerprint)
       select 'usage', 1, gen_random_uuid(), t, t, 'usage', '{}', now(), 1, 'e', 'f'
       from (select gen_random_uuid() as t from generate_series(1, 450)) s`,
    );
    await insertDead(database.db, [{ error: "other" }]);
    const dry = await cli.run("outbox", "dead", "requeue", "--fingerprint", "f", "--dry-run");
    expect(dry.stdout).toBe("would requeue 450 dead letters\n");
    expect(await countRows(database.db, "outbox_message")).toBe(0);
    const { code, stdout, stderr } = await cli.run("outbox", "dead", "requeue", "--fingerprint", "f");
    expect([code, stdout]).toEqual([0, "requeued 450 dead letters\n"]);
    expect(stderr.split("\n").filter((line) => !line.startsWith("{"))).toEqual([
      "requeued 200",
      "requeued 400",
      "requeued 450",
      "",
    ]);
    expect(await countRows(database.db, "outbox_message")).toBe(450);
  });
});

describe("waiting and reject", () => {
  /** Messages that fail whenever they are tried; resolves once each of them has. */
  const letFail = async (tenantId: string, numbers: readonly number[], error = "the sink answered 500") => {
    const worker = await outboxOf();
    const { handler } = recorder(() => ({ kind: "retry", error, afterMs: 3_600_000 }));
    await worker.start(serving({ usage: handler }));
    await enqueueNumbers(worker, database.db, tenantId, numbers);
    await eventually(async () => (await countRows(database.db, "outbox_parked")) === 1);
    await worker.stop();
  };

  const firstWaiting = async () => {
    const { items } = (await cli.json("outbox", "waiting")) as { items: { message_id: string }[] };
    return items[0]?.message_id ?? "";
  };

  test("shows what is tried again and again, with why and what waits behind it", async () => {
    const tenantId = tenantOf(1);
    expect((await cli.run("outbox", "waiting")).stdout).toMatch(/^nothing that failed waits/);
    expect((await cli.run("outbox", "waiting", "--all")).stdout).toBe("nothing waits\n");
    await letFail(tenantId, [7, 8], "the sink\n\u001b[31manswered 500");
    const { code, stdout, stderr } = await cli.run("outbox", "waiting", "--queue", "usage");
    expect([code, stderr]).toEqual([0, ""]);
    const [head, line, ...rest] = stdout.trimEnd().split("\n");
    expect(head).toMatch(
      /^MESSAGE +QUEUE +PARTITION +TENANT +STATE +ATTEMPTS +FIRST FAILED +NEXT ATTEMPT +BEHIND IT +LAST ERROR$/,
    );
    const id = await firstWaiting();
    expect(line).toMatch(
      new RegExp(
        `^${id} +usage +\\d+ +${tenantId} +backing off +1 +\\S+Z +\\S+Z +1 +the sink \\[31manswered 500$`,
      ),
    );
    expect(rest).toEqual([]);
    expect(await cli.json("outbox", "waiting", "--tenant", tenantId, "--limit", "1")).toMatchObject({
      items: [{ message_id: id, tenant_id: tenantId, attempts: 1, behind: 1 }],
      more: false,
    });
    expect(await cli.json("outbox", "waiting", "--queue", "audit")).toMatchObject({ items: [], more: false });
  });

  test("gives the first one up; a worker of another process delivers the next at once", async () => {
    const tenantId = tenantOf(1);
    await letFail(tenantId, [7, 8]);
    const id = await firstWaiting();
    const direct = new DirectConnection({ url: database.url });
    await direct.start();
    try {
      // The poll is far away: only the notification can wake it.
      const worker = await outboxOf({ direct, config: { notify: true, poll_interval_ms: 60_000 } });
      const { seen, handler, until } = recorder();
      await worker.start(serving({ usage: handler }));
      const args = ["--message", id, "--actor", "ann", "--reason", "ticket 4711"];
      const { code, stdout, stderr } = await cli.run("outbox", "reject", ...args);
      expect([code, stdout]).toEqual([0, `rejected ${id}: it is dead letter 1\n`]);
      await until((all) => all.length === 1);
      expect(seen[0]).toMatchObject({ tenantId, number: 8 });
      expect(JSON.parse(stderr)).toMatchObject({
        msg: "waiting message rejected",
        actor: "ann",
        reason: "ticket 4711",
        message_ids: [id],
        dead_letter_ids: ["1"],
      });
    } finally {
      await stopAll();
      await direct.stop();
    }
    const shown = (await cli.run("outbox", "dead", "show", "1")).stdout;
    expect(shown).toMatch(/^error +the sink answered 500$/m);
    expect(shown).toMatch(/^rejected by +ann$/m);
    expect(shown).toMatch(/^reason +ticket 4711$/m);
  });

  test("by two operators at once happens once, and the second is told", async () => {
    await letFail(tenantOf(1), [7, 8]);
    const id = await firstWaiting();
    const both = await Promise.all([1, 2].map(() => cli.start("outbox", "reject", "--message", id)));
    expect(both.map(({ code }) => code).toSorted()).toEqual([0, 1]);
    expect(both.map(({ stderr }) => stderr).join("")).toContain("there is no waiting message with this id");
    expect(await deadRows(database.db)).toMatchObject([{ message_id: id, status: "pending" }]);
    expect(await countRows(database.db, "outbox_message")).toBe(1);
  });

  test("of a process that is killed on the way leaves it waiting, or given up, never in between", async () => {
    await letFail(tenantOf(1), [7]);
    const id = await firstWaiting();
    // It has taken the partition, and is about to move the message.
    const release = await holdLock(database.url, "lock table outbox_dead in exclusive mode");
    const killed = new AbortController();
    const ran = cli.startMortal(killed.signal, "outbox", "reject", "--message", id);
    await waitingForLocks(database.db);
    killed.abort();
    expect((await ran).code).toBeNull();
    await release();
    await eventually(async () => {
      const { rows } = await database.db.query(
        "select from pg_stat_activity where datname = current_database() and application_name = 'mini-chat outbox'",
      );
      return rows.length === 0;
    });
    const where = [
      await countRows(database.db, "outbox_message"),
      await countRows(database.db, "outbox_parked"),
      await countRows(database.db, "outbox_dead"),
    ];
    expect(where).toEqual([1, 1, 0]);
    expect((await cli.run("outbox", "reject", "--message", id)).stdout).toContain("it is dead letter");
    expect(await countRows(database.db, "outbox_message")).toBe(0);
  });

  test("while a worker has it ends with 1, and says what to do", async () => {
    await letFail(tenantOf(1), [7]);
    const id = await firstWaiting();
    await database.db.query(
      "update outbox_partition set lease_token = gen_random_uuid(), lease_until = now() + interval '1 hour'",
    );
    const { code, stdout, stderr } = await cli.run("outbox", "reject", "--message", id);
    expect([code, stdout, stderr]).toEqual([1, "", expect.stringContaining("pause the partition first")]);
    expect(await countRows(database.db, "outbox_dead")).toBe(0);
  });
});

test("dead discard and purge give up what is pending, and forget what is over", async () => {
  await insertDead(database.db, [{}, {}, { status: "resolved", daysAgo: 31 }, { status: "resolved" }]);
  expect((await cli.run("outbox", "dead", "discard", "1", "--actor", "ann")).stdout).toBe(
    "discarded 1 dead letters\n",
  );
  expect((await deadRows(database.db))[0]).toMatchObject({ status: "discarded", completed_by: "ann" });
  expect((await cli.run("outbox", "purge")).stdout).toBe(
    "purged 1 resolved and discarded dead letters, older than 30 days\n",
  );
  expect(await cli.json("outbox", "purge", "--all-terminal")).toEqual({ deleted: 2 });
  expect(await deadRows(database.db)).toMatchObject([{ id: 2n, status: "pending" }]);
});

describe("status", () => {
  test("shows what waits and what is stuck, by queue and by partition", async () => {
    const outbox = await outboxOf();
    await enqueueNumbers(outbox, database.db, tenantOf(1), [1, 2]);
    await enqueueNumbers(outbox, database.db, tenantOf(2), [3]);
    await database.db.query(`
      update outbox_partition
      set
        lease_token = gen_random_uuid(), lease_until = now() + interval '1 minute', locked_by = 'somebody'
      where queue = 'usage' and no = 2`);
    await database.db.query(`
      update outbox_partition
      set not_before = now() + interval '1 minute', last_error = 'HTTP 500'
      where queue = 'usage' and no = 1`);
    await database.db.query(`
      insert into outbox_parked (partition_id, order_key, until, attempts)
      select id, gen_random_uuid(), now() + interval '1 minute', 9
      from outbox_partition
      where queue = 'usage' and no = 3`);
    await insertDead(database.db, [{}, { status: "resolved" }, { queue: "old-queue" }]);
    const { code, stdout } = await cli.run("outbox", "status", "--partitions");
    expect(code).toBe(0);
    const lines = stdout.split("\n").map((line) => line.trim().split(/ {2,}/));
    expect(lines).toContainEqual([
      ...[
        "QUEUE",
        "BACKLOG",
        "OLDEST",
        "PARTITIONS",
        "LEASED",
        "PAUSED",
        "BACKING OFF",
        "PARKED KEYS",
        "DEAD",
      ],
    ]);
    expect(lines).toContainEqual(["usage", "3", expect.any(String), "4", "1", "0", "1", "1", "1"]);
    expect(lines).toContainEqual(["old-queue (not configured)", "0", "-", "0", "0", "0", "0", "0", "1"]);
    expect(lines).toContainEqual([
      ...[expect.any(String), "usage", "1", "backing off", "2", expect.any(String), "0", "0", "HTTP 500"],
    ]);
    expect(lines).toContainEqual([
      ...[expect.any(String), "usage", "3", "keys waiting", "0", "-", "9", "1", "-"],
    ]);
    expect(await cli.json("outbox", "status", "--queue", "usage")).toMatchObject({
      backlog: 3,
      dead_letters_pending: 1,
      stray_messages: 0,
      queues: [
        {
          queue: "usage",
          partitions: { total: 4, leased: 1, paused: 0, backing_off: 1 },
          dead_letters: { pending: 1, resolved: 1, reprocessing: 0, discarded: 0 },
        },
      ],
    });
  });

  test("pause keeps a partition from being delivered until it is resumed", async () => {
    const { rows } = await database.db.query<{ id: number }>(
      "select id from outbox_partition where queue = 'usage' and no = 1",
    );
    const id = String(rows[0]?.id);
    expect((await cli.run("outbox", "pause", "--partition", id)).stdout).toBe("paused 1 partitions\n");
    const { seen, handler, until } = recorder();
    const worker = await outboxOf();
    await worker.start(serving({ usage: handler }));
    await enqueueNumbers(worker, database.db, tenantOf(1), [1]);
    await enqueueNumbers(worker, database.db, tenantOf(2), [2]);
    await until((all) => all.length === 1);
    expect(seen.map(({ number }) => number)).toEqual([2]);
    expect((await cli.run("outbox", "status", "--partitions")).stdout).toMatch(/usage +1 +paused +1 /);
    await cli.run("outbox", "resume", "--partition", id);
    await until((all) => all.length === 2);
    expect(await cli.run("outbox", "pause", "--partition", "99999")).toMatchObject({ code: 1 });
  });
});

describe("exit codes", () => {
  test.each<[number, readonly string[], RegExp]>([
    [2, ["outbox", "dead", "list", "--limit", "none"], /--limit must be a whole number/],
    [3, ["outbox", "status", "--database.url=postgresql://nobody@127.0.0.1:1/none"], /ECONNREFUSED/],
  ])("%d: mini-chat %j", async (code, args, message) => {
    const ran = await cli.start(...args);
    expect(ran.code).toBe(code);
    expect(ran.stderr).toMatch(message);
  });

  test("2: a queue or a configuration that makes no sense", async () => {
    const queue = await cli.run("outbox", "status", "--queue", "nosuch");
    expect([queue.code, queue.stderr]).toEqual([
      2,
      expect.stringContaining("--queue must be one of usage (usage)"),
    ]);
    const key = await cli.run("outbox", "status", "--outbox.processors=0");
    expect([key.code, key.stderr]).toEqual([2, expect.stringContaining("outbox.processors")]);
  });

  test("3: there is no embedded database, and none is made", async () => {
    const dir = mkdtempSync("/tmp/mini-chat-none-");
    const config = ["--database.mode=embedded", `--database.data_dir=${dir}/data`];
    const { code, stderr } = await cli.run("outbox", "status", ...config);
    expect([code, stderr]).toEqual([3, expect.stringContaining(`there is no database in ${dir}/data`)]);
    expect(readdirSync(dir)).toEqual([]);
    rmSync(dir, { recursive: true });
  });

  test("3: the schema is behind, and stays as it is", async () => {
    const empty = await createTestDatabase({ empty: true });
    try {
      const args = ["outbox", "status", "--database.migrations=auto", `--database.url=${empty.url}`];
      const { code, stderr } = await cli.run(...args);
      expect([code, stderr]).toEqual([3, expect.stringContaining("run mini-chat migrate")]);
      const { rows } = await empty.db.query("select to_regclass('outbox_dead') as it");
      expect(rows).toEqual([{ it: null }]);
    } finally {
      await empty.drop();
    }
  });
});

test("an embedded database is joined while a server runs on it, and started when none does", async () => {
  const dir = mkdtempSync("/tmp/mini-chat-embedded-");
  chmodSync(dir, 0o755);
  const args = ["outbox", "status", "--json", `--database.data_dir=${dir}/data`];
  try {
    const server = await startEmbedded({ dataDir: `${dir}/data`, settings: { fsync: "off" } });
    try {
      await migrate({ url: server.url, mode: "auto" });
      const joined = await runCommand(args, { cwd: dir });
      expect([joined.code, joined.stderr]).toEqual([0, ""]);
      expect(JSON.parse(joined.stdout)).toMatchObject({ backlog: 0 });
    } finally {
      await server.stop();
    }
    const started = await runCommand(args, { cwd: dir });
    expect([started.code, started.stderr]).toEqual([0, ""]);
  } finally {
    rmSync(dir, { recursive: true, force: true });
  }
}, 120_000);
