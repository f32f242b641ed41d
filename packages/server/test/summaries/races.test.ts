import { randomUUID } from "node:crypto";
import pg from "pg";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { eventually, type TestApp } from "../support/app.ts";
import { someoneWaits, total } from "../turns/support.ts";
import {
  catalog,
  smallModel,
  storedMessages,
  storedSummary,
  summariesSettled,
  summaryApp,
  summaryCalls,
  systemUsage,
  waitingTasks,
} from "./support.ts";

let app: TestApp;
let chatId: string;
let usageBefore: number;
let conflictsBefore: number;
beforeAll(async () => {
  app = await summaryApp({ config: catalog(smallModel()) });
});
beforeEach(async () => {
  chatId = await app.createChat();
  usageBefore = systemUsage(app).length;
  conflictsBefore = await total(app, "thread_summary_cas_conflicts_total");
});
afterEach(async () => {
  app.simulator.reset();
  await app.db.query("delete from outbox_message");
});
afterAll(() => app.close());

/** Seven short turns: the last makes a summary of the first five due, whose call waits at the gate. */
const summaryInFlight = async (gate: string): Promise<void> => {
  app.simulator.setSummary({ gate, events: [{ text: "<summary>of five turns</summary>" }] });
  for (let at = 1; at <= 7; at += 1) await app.ask(chatId, `q${at}`);
  await app.simulator.arrived(gate);
};

const settleAfter = async (gate: string): Promise<void> => {
  app.simulator.open(gate);
  await summariesSettled(app);
};

const nothingWasKept = async (): Promise<void> => {
  expect(await storedSummary(app, chatId)).toBeUndefined();
  expect((await storedMessages(app, chatId)).filter((message) => message.compressed)).toEqual([]);
  // The summary and its usage event are one transaction; the other queue is delivered meanwhile.
  expect(systemUsage(app).slice(usageBefore)).toEqual([]);
  expect(await waitingSystemUsage()).toBe(0);
  expect(summaryCalls(app)).toHaveLength(1);
  const dead = await app.db.query("select from outbox_dead where payload like '%' || $1 || '%'", [chatId]);
  expect(dead.rowCount).toBe(0);
};

const waitingSystemUsage = async (): Promise<number> =>
  (
    await app.db.query(
      "select from outbox_message where kind = 'usage' and payload like '%system_task%' and payload like '%' || $1 || '%'",
      [chatId],
    )
  ).rowCount;

const conflicts = async (): Promise<number> =>
  (await total(app, "thread_summary_cas_conflicts_total")) - conflictsBefore;

/** A connection of somebody else, in a transaction. */
const withTransaction = async <T>(work: (client: pg.Client) => Promise<T>): Promise<T> => {
  const client = new pg.Client({ connectionString: app.database.url });
  await client.connect();
  try {
    await client.query("begin");
    return await work(client);
  } finally {
    await client.end();
  }
};

const deleteMessage = "update messages set deleted_at = now() where chat_id = $1 and content = 'q3'";

describe("text that is deleted while its summary is made never comes back (§6.5, §12.14)", () => {
  test("by a mutation that committed meanwhile, as turns.md §15.3 has it", async () => {
    await summaryInFlight("mutated");
    await withTransaction(async (client) => {
      await client.query("update chats set updated_at = now() where id = $1", [chatId]);
      await client.query(deleteMessage, [chatId]);
      await client.query("delete from thread_summaries where chat_id = $1", [chatId]);
      await client.query("update messages set is_compressed = false where chat_id = $1", [chatId]);
      await client.query("commit");
    });
    await settleAfter("mutated");
    await nothingWasKept();
    expect(await conflicts()).toBe(0);
  });

  test("by somebody who holds nothing but the message and commits while the summary waits for it", async () => {
    await summaryInFlight("held");
    await withTransaction(async (client) => {
      await client.query(deleteMessage, [chatId]);
      app.simulator.open("held");
      await someoneWaits(app);
      await client.query("commit");
    });
    await summariesSettled(app);
    await nothingWasKept();
  });

  test("by somebody who holds the chat and commits while the summary waits for it", async () => {
    await summaryInFlight("locked");
    await withTransaction(async (client) => {
      await client.query("update chats set updated_at = now() where id = $1", [chatId]);
      app.simulator.open("locked");
      await someoneWaits(app);
      await client.query(deleteMessage, [chatId]);
      await client.query("commit");
    });
    await summariesSettled(app);
    await nothingWasKept();
  });

  test("a mutation that comes while the summary commits waits, and finds the summary to delete", async () => {
    await app.db.query(
      `create function trap_summaries() returns trigger language plpgsql as $$
       begin
         perform pg_advisory_xact_lock(815);
         return new;
       end $$`,
    );
    await app.db.query(
      "create trigger trap before insert on thread_summaries for each row execute function trap_summaries()",
    );
    await summaryInFlight("trapped");
    const mutated = await withTransaction(async (trap) => {
      await trap.query("select pg_advisory_xact_lock(815)");
      app.simulator.open("trapped");
      await someoneWaits(app);
      return withTransaction(async (mutator) => {
        const waiting = mutator.query(deleteMessage, [chatId]);
        await eventually(async () => {
          const { rows } = await app.database.db.query<{ waiting: bigint }>(
            "select count(*) as waiting from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'",
          );
          return rows[0]?.waiting === 2n;
        });
        await trap.query("commit");
        await waiting;
        const gone = await mutator.query("delete from thread_summaries where chat_id = $1", [chatId]);
        await mutator.query("commit");
        return gone.rowCount;
      });
    });
    await app.db.query("drop trigger trap on thread_summaries");
    expect(mutated).toBe(1);
    await summariesSettled(app);
    expect(await storedSummary(app, chatId)).toBeUndefined();
  });

  test("when the summary it extends was deleted, and another has taken its place", async () => {
    app.simulator.setSummary({ events: [{ text: "<summary>first</summary>" }] });
    for (let at = 1; at <= 7; at += 1) await app.ask(chatId, `q${at}`);
    await summariesSettled(app);
    const first = await storedSummary(app, chatId);
    app.simulator.setSummary({ gate: "extends", events: [{ text: "<summary>extended</summary>" }] });
    for (let at = 8; at <= 12; at += 1) await app.ask(chatId, `q${at}`);
    await app.simulator.arrived("extends");
    await withTransaction(async (client) => {
      await client.query("delete from thread_summaries where chat_id = $1", [chatId]);
      await client.query(
        `insert into thread_summaries (
           id, tenant_id, chat_id, summary_text, summarized_up_to_created_at, summarized_up_to_message_id
         )
         select $2, tenant_id, id, 'another', $3, $4 from chats where id = $1`,
        [chatId, randomUUID(), first?.createdAt, first?.messageId],
      );
      await client.query("commit");
    });
    await settleAfter("extends");
    expect((await storedSummary(app, chatId))?.text).toBe("another");
  });

  test("a deleted chat gets none, and is not tried again", async () => {
    await summaryInFlight("deleted");
    expect((await app.call("DELETE", `/chats/${chatId}`)).status).toBe(204);
    await settleAfter("deleted");
    await nothingWasKept();
  });

  test("a chat deleted before its task is delivered costs no call", async () => {
    await app.db.query("update outbox_partition set paused = true where queue = $1", [
      app.config.outbox.thread_summary_queue_name,
    ]);
    for (let at = 1; at <= 7; at += 1) await app.ask(chatId, `q${at}`);
    expect(await waitingTasks(app)).toHaveLength(1);
    await app.call("DELETE", `/chats/${chatId}`);
    await app.db.query("update outbox_partition set paused = false");
    await summariesSettled(app);
    expect(summaryCalls(app)).toEqual([]);
  });
});

describe("one task delivered twice", () => {
  test("commits once: the frontier tells the second that it is too late", async () => {
    await summaryInFlight("twice");
    await app.db.query(
      `insert into outbox_message (partition_id, message_id, tenant_id, order_key, kind, payload, trace)
       select partition_id, gen_random_uuid(), tenant_id, order_key, kind, payload, trace
       from outbox_message
       where kind = 'thread_summary'`,
    );
    await settleAfter("twice");
    expect((await storedSummary(app, chatId))?.text).toBe("of five turns");
    expect(summaryCalls(app)).toHaveLength(1);
    expect(await conflicts()).toBe(1);
    await eventually(() => systemUsage(app).length > usageBefore);
    expect(systemUsage(app).slice(usageBefore)).toHaveLength(1);
  });

  test("and the wider task that was queued meanwhile gives way as well", async () => {
    await summaryInFlight("wider");
    const [narrow] = await waitingTasks(app);
    await app.ask(chatId, "q8");
    const [, wide] = await waitingTasks(app);
    expect(wide).toMatchObject({ base_frontier_message_id: null });
    expect(wide?.["frozen_target_message_id"]).not.toBe(narrow?.["frozen_target_message_id"]);
    await settleAfter("wider");
    expect(await conflicts()).toBe(1);
    expect((await storedSummary(app, chatId))?.messageId).toBe(narrow?.["frozen_target_message_id"]);
  });
});

test("frontiers keep their microseconds from the row to the task and back", async () => {
  await summaryInFlight("exact");
  const [task] = await waitingTasks(app);
  await settleAfter("exact");
  const { rows } = await app.db.query<{ same: boolean }>(
    `select m.created_at = $2::timestamptz and s.summarized_up_to_created_at = m.created_at as same
     from messages m
     join thread_summaries s on s.chat_id = m.chat_id
     where m.id = $1`,
    [task?.["frozen_target_message_id"], task?.["frozen_target_created_at"]],
  );
  expect(rows).toEqual([{ same: true }]);
});

test("a task nobody can read, or with half a base, becomes a dead letter", async () => {
  await app.db.query("update outbox_partition set paused = true where queue = $1", [
    app.config.outbox.thread_summary_queue_name,
  ]);
  for (let at = 1; at <= 7; at += 1) await app.ask(chatId, `q${at}`);
  await app.db.query(
    `update outbox_message
     set payload = jsonb_set(payload::jsonb, '{base_frontier_message_id}', '"${randomUUID()}"')::text
     where kind = 'thread_summary'`,
  );
  await app.db.query("update outbox_partition set paused = false");
  await summariesSettled(app);
  const { rows } = await app.db.query<{ error: string }>(
    "select error from outbox_dead where payload like '%' || $1 || '%'",
    [chatId],
  );
  expect(rows).toEqual([{ error: expect.stringContaining("only one base frontier field") }]);
  expect(summaryCalls(app)).toEqual([]);
});
