import { afterAll, beforeAll, beforeEach, expect, test } from "vitest";
import type { TenantId } from "../../src/auth/actor.ts";
import { loadRange } from "../../src/messages/summary-store.ts";
import { createOutbox, type Outbox } from "../../src/outbox/outbox.ts";
import { commitSummary, type Draft } from "../../src/summaries/commit.ts";
import { noLogger } from "../../src/telemetry/log.ts";
import { noMetrics } from "../../src/telemetry/metrics.ts";
import { model } from "../context/support.ts";
import type { TestApp } from "../support/app.ts";
import { callers } from "../support/config.ts";
import { catalog, smallModel, storedMessages, storedSummary, summaryApp, waitingTasks } from "./support.ts";

let app: TestApp;
let outbox: Outbox;
let chatId: string;
beforeAll(async () => {
  // Nobody delivers, so that every event stays on the outbox to be counted.
  app = await summaryApp({ config: { ...catalog(smallModel()), role: "api" } });
  outbox = createOutbox({
    db: app.db,
    config: app.config.outbox,
    instanceId: "test",
    logger: noLogger,
    metrics: noMetrics,
  });
  await outbox.register();
});
beforeEach(async () => {
  await app.db.query("delete from outbox_message");
  chatId = await app.createChat();
  for (let at = 1; at <= 7; at += 1) await app.ask(chatId, `q${at}`);
});
afterAll(() => app.close());

const systemUsage = async (): Promise<Record<string, unknown>[]> =>
  (
    await app.db.query<{ payload: string }>(
      "select payload from outbox_message where payload like '%system_task%' and kind = 'usage'",
    )
  ).rows.map(({ payload }) => JSON.parse(payload) as Record<string, unknown>);

/** What the handler would commit for the task the chat has queued. */
const draftOf = async (text: string): Promise<Draft> => {
  const [task] = await waitingTasks(app);
  const thread = { tenantId: callers.ann.tenantId as TenantId, chatId };
  const target = {
    createdAt: String(task?.["frozen_target_created_at"]),
    id: String(task?.["frozen_target_message_id"]),
  };
  return {
    thread,
    systemRequestId: String(task?.["system_request_id"]),
    base: null,
    target,
    loaded: await loadRange(app.db, { ...thread, after: null, upTo: target }, { maxChars: 0, limit: 100 }),
    text,
    model: model(),
    usage: null,
  };
};

const deps = () => ({ db: app.db, outbox: outbox.enqueuer });

test("of ten handlers of one range one commits: one usage event, flags on exactly the range (§12.10)", async () => {
  const drafts = await Promise.all(Array.from({ length: 10 }, (_, at) => draftOf(`by ${at}`)));
  const outcomes = await Promise.all(drafts.map((draft) => commitSummary(deps(), draft)));
  expect(outcomes.toSorted()).toEqual(["committed", ...Array(9).fill("conflict")]);
  expect((await storedSummary(app, chatId))?.text).toBe(`by ${outcomes.indexOf("committed")}`);
  expect(await systemUsage()).toHaveLength(1);
  const messages = await storedMessages(app, chatId);
  expect(messages.map((message) => message.compressed)).toEqual(messages.map((_, at) => at < 10));
});

test("a commit takes two round trips", async () => {
  const draft = await draftOf("quick");
  let trips = 0;
  app.db.onRoundTrip = () => {
    trips += 1;
  };
  const outcome = await commitSummary(deps(), draft);
  app.db.onRoundTrip = undefined;
  expect({ outcome, trips }).toEqual({ outcome: "committed", trips: 2 });
});

test("a message that came into the range unseen stops the commit, too: it would be lost", async () => {
  const draft = await draftOf("partial");
  const seen = { ...draft.loaded, messages: draft.loaded.messages.slice(1), total: draft.loaded.total - 1 };
  expect(await commitSummary(deps(), { ...draft, loaded: seen })).toBe("range_changed");
  const [, ...others] = draft.loaded.messages;
  const other = {
    ...draft.loaded,
    messages: [...others, { id: chatId, role: "user" as const, content: "" }],
  };
  expect(await commitSummary(deps(), { ...draft, loaded: other })).toBe("range_changed");
  expect(await storedSummary(app, chatId)).toBeUndefined();
  expect(await systemUsage()).toEqual([]);
});

test("another tenant's task reaches nothing", async () => {
  const draft = await draftOf("foreign");
  const thread = { tenantId: callers.bob.tenantId as TenantId, chatId };
  await expect(commitSummary(deps(), { ...draft, thread })).rejects.toThrow(/foreign key/);
  expect(await storedSummary(app, chatId)).toBeUndefined();
});

test("an event that cannot be written takes the summary with it", async () => {
  const draft = await draftOf("unbilled");
  const { db, config } = app;
  const unregistered = createOutbox({ db, config: config.outbox, instanceId: "test", logger: noLogger });
  await expect(commitSummary({ db, outbox: unregistered.enqueuer }, draft)).rejects.toThrow(/not registered/);
  expect(await storedSummary(app, chatId)).toBeUndefined();
  expect((await storedMessages(app, chatId)).some((message) => message.compressed)).toBe(false);
});

test("a turn whose answer cannot be stored fails, and makes no summary due", async () => {
  await app.db.query("delete from outbox_message");
  await app.db.query(
    `create function refuse_answers() returns trigger language plpgsql as $$
     begin
       raise exception 'no answers today' using errcode = '23514';
     end $$`,
  );
  await app.db.query(
    `create trigger refuse before insert on messages
     for each row when (new.role = 'assistant') execute function refuse_answers()`,
  );
  const { events } = await app.ask(chatId, "q8");
  await app.db.query("drop trigger refuse on messages");
  expect(events.at(-1)).toMatchObject({ event: "error", data: { code: "message_persistence_failed" } });
  expect(await waitingTasks(app)).toEqual([]);
  // The next one that completes does.
  await app.ask(chatId, "q9");
  expect(await waitingTasks(app)).toHaveLength(1);
});
