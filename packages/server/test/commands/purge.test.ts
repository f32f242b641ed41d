import { randomBytes, randomUUID } from "node:crypto";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { parseArguments } from "../../src/commands/arguments.ts";
import type { Db } from "../../src/db/pool.ts";
import { inTransaction } from "../../src/db/tx.ts";
import { holdLock, releaseLocks, waitingForLocks } from "../crash/support.ts";
import { type Chat, enqueuing, fillChat, insertChat, kept } from "../retention/support.ts";
import { createTestDatabase, type TestDatabase } from "../support/database.ts";
import { type CommandLine, commandLine } from "./support.ts";

let database: TestDatabase;
let db: Db;
let cli: CommandLine;
beforeAll(async () => {
  database = await createTestDatabase();
  db = database.db;
  cli = commandLine(database.url);
});
beforeEach(() => db.query("truncate chats, outbox_message, outbox_dead cascade"));
afterEach(releaseLocks);
afterAll(async () => {
  cli.remove();
  await database.drop();
});

const store = async (chat: Chat): Promise<void> => {
  await db.query(
    `insert into chat_vector_stores (id, tenant_id, chat_id, provider, provider_id)
     values (gen_random_uuid(), $1, $2, 'sim', 'sim')`,
    [chat.tenantId, chat.id],
  );
};

const runTurn = async (chat: Chat): Promise<void> => {
  await db.query(
    `insert into chat_turns (id, tenant_id, chat_id, request_id, requester_type, state, request_fingerprint,
       last_progress_at)
     values (gen_random_uuid(), $1, $2, gen_random_uuid(), 'user', 'running', $3, now())`,
    [chat.tenantId, chat.id, randomBytes(32)],
  );
};

describe("the command line", () => {
  test.each<[string, object]>([
    ["purge", { force: undefined, dryRun: false, json: false }],
    ["--config x.yaml purge --dry-run --json", { dryRun: true, json: true, config: "x.yaml" }],
    ["--dry-run purge --actor=me --retention.chat_grace_days 3", { dryRun: true, actor: "me" }],
    ["purge --force AAAAAAAA-0000-4000-8000-000000000001", { force: "aaaaaaaa-0000-4000-8000-000000000001" }],
  ])("%s", (line, given) => {
    expect(parseArguments(line.split(" "))).toMatchObject({ kind: "purge", given });
  });

  test.each<[string, RegExp]>([
    ["purge --force", /--force needs a value/],
    ["purge --force all", /--force must be the id of a chat, not "all"/],
    ["purge now", /unexpected argument "now"/],
    ["purge --older-than 3", /unknown flag --older-than/],
    ["purge --json --json", /--json is given twice/],
    ["migrate purge", /unknown command or argument: purge/],
  ])("%s is refused", (line, message) => {
    const parsed = parseArguments(line.split(" "));
    expect(parsed).toMatchObject({ kind: "wrong", message: expect.stringMatching(message) });
  });

  test("help tells the flags", () => {
    const help = parseArguments(["purge", "--help"]);
    expect(help).toMatchObject({ kind: "help", text: expect.stringMatching(/--force CHAT.*--dry-run/s) });
  });
});

describe("purge", () => {
  test("removes what is due and free, and says what waits for what", async () => {
    const due = [await insertChat(db, { deletedDaysAgo: 31 }), await insertChat(db, { deletedDaysAgo: 32 })];
    const waits = await insertChat(db, { deletedDaysAgo: 33 });
    const recent = await insertChat(db, { deletedDaysAgo: 29 });
    await store(waits);
    const dry = await cli.run("purge", "--dry-run");
    expect(dry.code).toBe(0);
    expect(dry.stdout).toMatch(/^would purge 2 chats deleted more than 30 days ago\n1 chats wait\n/);
    expect(await kept(db, [...due, waits, recent])).toHaveLength(4);

    const { code, stdout, stderr } = await cli.run("purge", "--actor", "me");
    expect(code).toBe(0);
    expect(stdout).toMatch(
      new RegExp(`^purged 2 chats.*\n1 chats wait\nCHAT.*\n${waits.id} +${waits.tenantId} +its vector store`),
    );
    expect(stderr).toMatch(/^purged 2$/m);
    expect(stderr).toMatch(/"actor":"me".*"purged":2/);
    expect(await kept(db, [...due, waits, recent])).toEqual([waits, recent]);
    expect(await cli.json("purge")).toEqual({
      dry_run: false,
      purged: 0,
      blocked: { vector_store: 1 },
      failed: 0,
      waiting: [{ chat_id: waits.id, tenant_id: waits.tenantId, reason: "vector_store" }],
    });
  });

  test("ends with 1 when a chat cannot be removed, and removes the others", async () => {
    const bad = await insertChat(db, { deletedDaysAgo: 33 });
    const good = await insertChat(db, { deletedDaysAgo: 32 });
    await db.query(
      `create function refuse_delete() returns trigger language plpgsql as $$
       begin
         raise exception 'no luck';
       end
       $$`,
    );
    await db.query(
      `create trigger refused before delete on chats for each row
       when (old.id = '${bad.id}') execute function refuse_delete()`,
    );
    try {
      const { code, stdout, stderr } = await cli.run("purge");
      expect([code, stdout]).toEqual([
        1,
        expect.stringMatching(/^purged 1 chats.*\n1 chats failed; the log/),
      ]);
      expect(stderr).toMatch(/"chat not purged"/);
    } finally {
      await db.query("drop function refuse_delete cascade");
    }
    expect(await kept(db, [bad, good])).toEqual([bad]);
  });

  test("has nothing to do without a grace", async () => {
    const chat = await insertChat(db, { deletedDaysAgo: 3_000 });
    const { code, stderr } = await cli.run("purge", "--retention.chat_grace_days=0");
    expect([code, stderr]).toEqual([2, expect.stringContaining("--force CHAT purges one all the same")]);
    expect(await kept(db, [chat])).toEqual([chat]);
  });

  test("does nothing without a database", async () => {
    expect((await cli.run("purge", "--database.url=postgres://127.0.0.1:1/none")).code).toBe(3);
  });
});

describe("purge --force", () => {
  test("removes one chat whatever it waits for, and logs who did it", async () => {
    const outbox = await enqueuing(db);
    const tenantId = randomUUID();
    const [chat, other] = [
      await insertChat(db, { tenantId, deletedDaysAgo: 1 }),
      await insertChat(db, { tenantId, deletedDaysAgo: 99 }),
    ];
    await fillChat(db, chat);
    await store(chat);
    await db.query("update attachments set cleanup_status = 'failed' where chat_id = $1", [chat.id]);
    await inTransaction(db, (tx) =>
      outbox.enqueueChatCleanup(tx, {
        reason: "chat_soft_delete",
        tenant_id: chat.tenantId,
        chat_id: chat.id,
        system_request_id: randomUUID(),
        chat_deleted_at: "2026-01-01T00:00:00.000Z",
      }),
    );
    const overridden = ["grace_period", "cleanup_event", "cleanup_failed", "vector_store"];
    expect(await cli.json("purge", "--force", chat.id, "--dry-run")).toEqual({
      dry_run: true,
      chat_id: chat.id,
      overridden,
    });
    expect(await kept(db, [chat])).toEqual([chat]);

    const { code, stdout, stderr } = await cli.run("purge", "--force", chat.id, "--actor", "on call");
    expect([code, stdout]).toEqual([
      0,
      [
        `purged chat ${chat.id}`,
        "  although its grace is not over",
        "  although its cleanup event is not delivered",
        "  although files could not be deleted at the provider",
        "  although its vector store still exists",
        "",
      ].join("\n"),
    ]);
    expect(JSON.parse(stderr)).toMatchObject({
      level: "warn",
      actor: "on call",
      chat_id: chat.id,
      tenant_id: tenantId,
      overridden,
    });
    expect(await kept(db, [chat, other])).toEqual([other]);
  });

  test("of a chat that nothing blocks overrides nothing", async () => {
    const chat = await insertChat(db, { deletedDaysAgo: 31 });
    expect(await cli.json("purge", "--force", chat.id)).toMatchObject({ overridden: [] });
    expect(await kept(db, [chat])).toEqual([]);
  });

  test("works where chats are never purged by themselves", async () => {
    const chat = await insertChat(db, { deletedDaysAgo: 31 });
    const json = await cli.json("purge", "--force", chat.id, "--retention.chat_grace_days=0");
    expect(json).toMatchObject({ overridden: ["grace_period"] });
    expect(await kept(db, [chat])).toEqual([]);
  });

  test.each<[string, (chat: Chat) => Promise<unknown>, number | undefined, RegExp]>([
    ["a chat that is not deleted", async () => {}, undefined, /is not deleted/],
    ["a chat with a running turn", runTurn, 31, /a turn of chat \S+ is running and holds a reserve/],
    ["no chat", (chat) => db.query("delete from chats where id = $1", [chat.id]), 31, /there is no chat/],
  ])("%s is refused", async (_, arrange, deletedDaysAgo, message) => {
    const chat = await insertChat(db, deletedDaysAgo === undefined ? {} : { deletedDaysAgo });
    await arrange(chat);
    const before = await kept(db, [chat]);
    for (const more of [[], ["--dry-run"]]) {
      const { code, stdout, stderr } = await cli.run("purge", "--force", chat.id, ...more);
      expect([code, stdout]).toEqual([1, ""]);
      expect(stderr).toMatch(message);
    }
    expect(await kept(db, [chat])).toEqual(before);
  });
});

/** How many rows a chat has in each table. */
const rowsOf = async ({ id }: Chat): Promise<Record<string, bigint>> =>
  (
    await db.query<Record<string, bigint>>(
      `select
         (select count(*) from chats where id = $1) as chat,
         (select count(*) from messages where chat_id = $1) as messages,
         (select count(*) from chat_turns where chat_id = $1) as turns,
         (select count(*) from turn_events e join chat_turns t on t.id = e.turn_id where t.chat_id = $1) as events,
         (select count(*) from attachments where chat_id = $1) as files,
         (select count(*) from message_reactions where chat_id = $1) as reactions`,
      [id],
    )
  ).rows[0] ?? {};

test("killed in the middle of a batch every chat is whole or gone, and the next run goes on", async () => {
  const chats: Chat[] = [];
  for (let at = 0; at < 12; at += 1) {
    const chat = await insertChat(db, { deletedDaysAgo: 100 - at });
    await fillChat(db, chat);
    chats.push(chat);
  }
  const [first, middle] = [chats[0], chats[5]];
  if (first === undefined || middle === undefined) throw new Error("too few chats");
  const whole = await rowsOf(first);
  // Its messages are deleted when the cascade comes to this row and waits.
  await holdLock(database.url, "select from message_reactions where chat_id = $1 for update", [middle.id]);
  const stop = new AbortController();
  const killed = cli.startMortal(stop.signal, "purge");
  await waitingForLocks(db);
  stop.abort();
  expect((await killed).code).toBeNull();
  await releaseLocks();
  await expect
    .poll(
      async () =>
        (
          await db.query(
            "select from pg_stat_activity where wait_event_type = 'Lock' and datname = current_database()",
          )
        ).rowCount,
    )
    .toBe(0);
  expect(await kept(db, chats)).toEqual(chats.slice(5));
  for (const chat of chats.slice(5)) expect(await rowsOf(chat)).toEqual(whole);
  const gone = Object.fromEntries(Object.keys(whole).map((key) => [key, 0n]));
  for (const chat of chats.slice(0, 5)) expect(await rowsOf(chat)).toEqual(gone);

  const { code, stdout } = await cli.start("purge");
  expect([code, stdout]).toEqual([0, "purged 7 chats deleted more than 30 days ago\n"]);
  expect(await kept(db, chats)).toEqual([]);
});
