import { randomUUID } from "node:crypto";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { markChatAttachmentsForCleanup } from "../../src/attachments/store.ts";
import { type ExpireDeps, expireTemporaryChats } from "../../src/chats/expire.ts";
import { readChatCleanup } from "../../src/outbox/cleanup-event.ts";
import type { OutboxEnqueuer } from "../../src/outbox/enqueuer.ts";
import { noLogger } from "../../src/telemetry/log.ts";
import { hasRunningTurn } from "../../src/turns/chat-store.ts";
import { holdLock, releaseLocks, waitingForLocks } from "../crash/support.ts";
import { eventually, startTestApp, type TestApp } from "../support/app.ts";
import { callers } from "../support/config.ts";
import { attach } from "../turns/support.ts";
import { enqueuing, insertChat, never } from "./support.ts";

let app: TestApp;
let outbox: OutboxEnqueuer;
beforeAll(async () => {
  // No job of its own sweeps while these tests do, and events stay to be looked at.
  app = await startTestApp({ config: { role: "api", database: { max_connections: 20 } } });
  outbox = await enqueuing(app.db);
});
beforeEach(() => app.db.query("truncate chats, outbox_message cascade"));
afterEach(releaseLocks);
afterAll(() => app.close());

const sweep = (more: Partial<ExpireDeps> = {}, signal = never): Promise<number> =>
  expireTemporaryChats(
    {
      db: app.db,
      logger: noLogger,
      outbox,
      markAttachments: markChatAttachmentsForCleanup,
      hasRunningTurn,
      ...more,
    },
    signal,
  );

/** Lets a chat's time be over. */
const overdue = async (chatId: string): Promise<void> => {
  await app.db.query(
    `update chats set created_at = created_at - interval '25 hours', expires_at = expires_at - interval '25 hours'
     where id = $1`,
    [chatId],
  );
};

const temporary = async (): Promise<string> => {
  const id = await app.createChat(callers.ann, { is_temporary: true });
  await overdue(id);
  return id;
};

const isDeleted = async (chatId: string): Promise<boolean> =>
  (await app.db.query("select from chats where id = $1 and deleted_at is not null", [chatId])).rowCount === 1;

const eventsOf = async (chatId: string) =>
  (
    await app.db.query<{ payload: string }>(
      "select payload from outbox_message where order_key = $1 and kind = 'chat_cleanup'",
      [chatId],
    )
  ).rows.map(({ payload }) => readChatCleanup(payload));

describe("which chats expire (data.md §4)", () => {
  test.each<[string, number | undefined, boolean]>([
    ["one that is kept", undefined, false],
    ["a temporary one, a minute early", -60, false],
    ["a temporary one whose time is over", 1, true],
    ["one that nobody swept for a month", 2_600_000, true],
  ])("%s", async (_, expiredSecsAgo, expected) => {
    const chat = await insertChat(app.db, expiredSecsAgo === undefined ? {} : { expiredSecsAgo });
    expect(await sweep()).toBe(expected ? 1 : 0);
    expect(await isDeleted(chat.id)).toBe(expected);
    expect(await eventsOf(chat.id)).toHaveLength(expected ? 1 : 0);
  });

  test("what happens in a chat does not extend its time", async () => {
    const id = await app.createChat(callers.ann, { is_temporary: true });
    await app.ask(id, "PING");
    await app.call("PATCH", `/chats/${id}`, { body: { title: "Kept?" } });
    await overdue(id);
    await app.ask(id, "PING");
    expect(await sweep()).toBe(1);
  });

  test("more than one batch of them", async () => {
    for (let at = 0; at < 205; at += 1) await insertChat(app.db, { expiredSecsAgo: 60 });
    expect(await sweep()).toBe(205);
    expect((await app.db.query("select from outbox_message where kind = 'chat_cleanup'")).rowCount).toBe(205);
  });

  test("one that its owner deleted has its one event", async () => {
    const id = await temporary();
    await app.call("DELETE", `/chats/${id}`);
    expect(await sweep()).toBe(0);
    expect(await eventsOf(id)).toMatchObject([{ reason: "chat_soft_delete" }]);
  });
});

test("an expired chat ends as a deleted one does: gone for its owner, its files marked, one event", async () => {
  const [expired, deleted] = [await temporary(), await temporary()];
  for (const id of [expired, deleted]) {
    await app.ask(id, "find the needle");
    await attach(app, id);
  }
  await app.call("DELETE", `/chats/${deleted}`);
  expect(await sweep()).toBe(1);

  const rowOf = async (id: string) =>
    (
      await app.db.query(
        `select
           c.updated_at = c.deleted_at as touched, a.cleanup_status, a.cleanup_updated_at is not null as marked,
           a.deleted_at as file_deleted_at, (select count(*) from messages m where m.chat_id = c.id) as messages
         from chats c join attachments a on a.chat_id = c.id
         where c.id = $1`,
        [id],
      )
    ).rows;
  expect(await rowOf(expired)).toEqual(await rowOf(deleted));
  expect(await rowOf(expired)).toMatchObject([{ touched: true, cleanup_status: "pending", marked: true }]);

  const { rows } = await app.db.query<{ at: string }>(
    `select to_char(deleted_at, 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"') as at from chats where id = $1`,
    [expired],
  );
  expect(await eventsOf(expired)).toEqual([
    {
      reason: "temporary_chat_expired",
      tenant_id: callers.ann.tenantId,
      chat_id: expired,
      system_request_id: expect.stringMatching(/^[0-9a-f-]{14}4/),
      chat_deleted_at: rows[0]?.at,
    },
  ]);

  for (const path of ["", "/messages", "/export"]) {
    expect((await app.call("GET", `/chats/${expired}${path}`)).status).toBe(404);
  }
  expect((await app.call("GET", "/chats")).body.items).toEqual([]);
  expect((await app.call("GET", "/search?q=needle")).body.items).toEqual([]);
  expect((await (await app.send(expired, { content: "PING" })).problem()).code).toBe("chat_not_found");
});

describe("a running turn postpones it", () => {
  /** A turn that waits for its provider until it is let go. */
  const running = async (chatId: string) => {
    const gate = randomUUID();
    app.simulator.enqueue({ gate });
    const stream = await app.send(chatId, { content: "PING" });
    await app.simulator.arrived(gate);
    return { stream, letGo: () => app.simulator.open(gate) };
  };

  test("until it has ended", async () => {
    const id = await temporary();
    const { stream, letGo } = await running(id);
    expect(await sweep()).toBe(0);
    expect(await isDeleted(id)).toBe(false);
    expect(await eventsOf(id)).toEqual([]);
    letGo();
    expect((await stream.rest()).at(-1)?.event).toBe("done");
    await eventually(
      async () => (await app.db.query("select from chat_turns where state = 'running'")).rowCount === 0,
    );
    expect(await sweep()).toBe(1);
  });

  test("without holding up the others", async () => {
    const id = await temporary();
    const { stream, letGo } = await running(id);
    const others = [await temporary(), await temporary()];
    expect(await sweep()).toBe(2);
    expect(await Promise.all([id, ...others].map(isDeleted))).toEqual([false, true, true]);
    letGo();
    await stream.rest();
  });

  test("also one whose send was first by a moment and is not committed yet", async () => {
    const id = await temporary();
    const turn = randomUUID();
    const send = await holdLock(
      app.database.url,
      `with locked as (update chats set updated_at = now() where id = $1 returning id, tenant_id)
       insert into chat_turns (id, tenant_id, chat_id, request_id, requester_type, state, request_fingerprint,
         last_progress_at)
       select $2, tenant_id, id, $2, 'user', 'running', sha256('x'), now() from locked`,
      [id, turn],
    );
    const swept = sweep();
    await waitingForLocks(app.db);
    await send("commit");
    expect(await swept).toBe(0);
    expect(await isDeleted(id)).toBe(false);
    expect(await eventsOf(id)).toEqual([]);
  });
});

test("of sends and sweeps at the same instant either the turn is refused or the chat is postponed", async () => {
  const chats = await Promise.all(Array.from({ length: 24 }, temporary));
  const sends = chats.map((id) => app.send(id, { content: "PING" }));
  const sweeps = [sweep(), sweep(), sweep()];
  const streams = await Promise.all(sends);
  await Promise.all(sweeps);
  for (const [at, stream] of streams.entries()) {
    const id = chats[at] ?? "";
    if (stream.status === 200) expect((await stream.rest()).at(-1)?.event).toBe("done");
    else expect((await stream.problem()).code).toBe("chat_not_found");
    const { rows } = await app.db.query<{ turns: bigint; late: bigint }>(
      `select count(*) as turns, count(*) filter (where t.completed_at > c.deleted_at) as late
       from chat_turns t join chats c on c.id = t.chat_id where c.id = $1`,
      [id],
    );
    expect(rows).toEqual([{ turns: stream.status === 200 ? 1n : 0n, late: 0n }]);
  }
  await sweep();
  for (const id of chats) {
    expect(await isDeleted(id)).toBe(true);
    expect(await eventsOf(id)).toHaveLength(1);
  }
});

test("two sweeps at once delete each chat once, with one event (ops.md §8)", async () => {
  const chats = await Promise.all(
    Array.from({ length: 60 }, () => insertChat(app.db, { expiredSecsAgo: 5 })),
  );
  const counts = await Promise.all([sweep(), sweep(), sweep()]);
  expect(counts.reduce((sum, one) => sum + one, 0)).toBe(60);
  for (const { id } of chats) expect(await eventsOf(id)).toHaveLength(1);
});

test("a chat that fails stays whole and does not stop the sweep; the signal stops it", async () => {
  const bad = await insertChat(app.db, { expiredSecsAgo: 90 });
  const good = await insertChat(app.db, { expiredSecsAgo: 60 });
  const failing: Partial<ExpireDeps> = {
    markAttachments: async (...[tx, tenantId, chatId]) => {
      await markChatAttachmentsForCleanup(tx, tenantId, chatId);
      if (chatId === bad.id) throw new Error("no luck");
    },
  };
  expect(await sweep(failing)).toBe(1);
  expect(await isDeleted(bad.id)).toBe(false);
  expect(await eventsOf(bad.id)).toEqual([]);
  expect(await isDeleted(good.id)).toBe(true);
  expect(await sweep({}, AbortSignal.abort())).toBe(0);
  expect(await sweep()).toBe(1);
});
