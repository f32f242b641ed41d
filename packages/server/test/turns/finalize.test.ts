import { randomUUID } from "node:crypto";
import { afterAll, afterEach, beforeAll, describe, expect, test } from "vitest";
import { createOutbox } from "../../src/outbox/outbox.ts";
import { noLogger } from "../../src/telemetry/log.ts";
import { noMetrics } from "../../src/telemetry/metrics.ts";
import { finalizeOrphans } from "../../src/turns/orphans.ts";
import { addWitness } from "../crash/support.ts";
import { eventually, startTestApp, type TestApp } from "../support/app.ts";

let app: TestApp;
beforeAll(async () => {
  // Nobody delivers, so that every event stays on the outbox to be counted.
  app = await startTestApp({ config: { role: "api" } });
  await app.db.query(`
    create function refuse_answers() returns trigger language plpgsql as $$
    begin
      if new.role = 'assistant' and new.content like 'unstorable%' then
        raise exception 'no answers today' using errcode = '23514';
      end if;
      return new;
    end $$`);
  await app.db.query(
    "create trigger refuse_answers before insert on messages for each row execute function refuse_answers()",
  );
});
afterEach(() => {
  app.simulator.clearScenarios();
});
afterAll(async () => {
  await app.close();
});

const turnOf = async (requestId: string) =>
  (
    await app.db.query<{ id: string; state: string; error_code: string | null; message: string | null }>(
      "select id, state, error_code, assistant_message_id as message from chat_turns where request_id = $1",
      [requestId],
    )
  ).rows[0];

const eventsOf = async (requestId: string): Promise<Record<string, unknown>[]> =>
  (
    await app.db.query<{ payload: string }>(
      "select payload from outbox_message where payload like '%' || $1 || '%' order by kind desc",
      [requestId],
    )
  ).rows.map((row) => JSON.parse(row.payload));

const reserved = async (): Promise<bigint | undefined> =>
  (
    await app.db.query<{ reserved: bigint }>(
      "select coalesce(sum(reserved_credits_micro), 0)::bigint as reserved from quota_usage",
    )
  ).rows[0]?.reserved;

describe("an answer that cannot be stored (turns.md §10.3)", () => {
  test("§23.7 a completed turn fails with the same usage; the client gets `error`, not `done`", async () => {
    const chatId = await app.createChat();
    app.simulator.enqueue({
      events: [{ text: "unstorable" }],
      usage: { input_tokens: 900, output_tokens: 300 },
    });
    const { requestId, events } = await app.ask(chatId, "hi");
    expect(events.at(-1)).toMatchObject({ event: "error", data: { code: "message_persistence_failed" } });
    expect(await turnOf(requestId)).toMatchObject({
      state: "failed",
      error_code: "message_persistence_failed",
      message: null,
    });
    const [usage, audit, ...more] = await eventsOf(requestId);
    expect(more).toEqual([]);
    expect(usage).toMatchObject({
      settlement_method: "actual",
      billing_outcome: "failed",
      actual_credits_micro: 1_800,
      completion_signal: null,
    });
    expect(audit).toMatchObject({ event_type: "turn_failed", error_code: "message_persistence_failed" });
    expect(await reserved()).toBe(0n);
  });

  test("a cancelled turn is cancelled without a message", async () => {
    const chatId = await app.createChat();
    const requestId = randomUUID();
    app.simulator.enqueue({ events: [{ text: "unstorable" }, { wait_for: "cancelled" }] });
    const stream = await app.send(chatId, { content: "hi", request_id: requestId });
    await stream.until("delta");
    await app.call("POST", `/chats/${chatId}/turns/${requestId}/cancel`);
    await stream.rest();
    expect(await turnOf(requestId)).toMatchObject({ state: "cancelled", error_code: null, message: null });
    expect(await eventsOf(requestId)).toHaveLength(2);
    expect(await reserved()).toBe(0n);
  });
});

describe("§23.4 many finalizers of one turn", () => {
  test("stream, cancel and ten watchdogs at once: one commits, everything exists once", async () => {
    const outbox = createOutbox({ db: app.db, config: app.config.outbox, instanceId: "watchdogs" });
    await outbox.register();
    const deps = {
      db: app.db,
      outbox: outbox.enqueuer,
      metrics: noMetrics,
      logger: noLogger,
      overshootToleranceBp: 11_000n,
    };
    const limits = { timeoutSecs: 90, deadOwnerSecs: 30, leaseSecs: 30, witnessSecs: 30 };
    await addWitness(app.db);
    for (let round = 0; round < 8; round += 1) {
      const chatId = await app.createChat();
      const requestId = randomUUID();
      const gate = `race-${round}`;
      app.simulator.enqueue({ events: [{ text: "some" }, { wait_for: gate }] });
      const stream = await app.send(chatId, { content: "hi", request_id: requestId });
      await stream.until("delta");
      await app.db.query(
        "update chat_turns set last_progress_at = now() - interval '10 minutes' where request_id = $1",
        [requestId],
      );
      app.simulator.open(gate);
      await Promise.all([
        ...Array.from({ length: 10 }, () => finalizeOrphans(deps, limits, new AbortController().signal)),
        app.call("POST", `/chats/${chatId}/turns/${requestId}/cancel`),
        stream.rest(),
      ]);
      await eventually(async () => (await turnOf(requestId))?.state !== "running");
      expect((await eventsOf(requestId)).map((event) => event["dedupe_key"] !== undefined)).toEqual([
        true,
        false,
      ]);
      const answers = await app.db.query(
        "select from messages where request_id = $1 and role = 'assistant'",
        [requestId],
      );
      expect(answers.rowCount).toBe((await turnOf(requestId))?.message === null ? 0 : 1);
      const last = stream.raw().trimEnd().split("\n\n").at(-1) ?? "";
      const state = (await turnOf(requestId))?.state;
      // §23.7: `done` only for a committed success; a loser says that it was interrupted.
      if (last.startsWith("event: done")) expect(state).toBe("completed");
      else expect(last).toMatch(/"code":"(cancelled|stream_interrupted)"/);
    }
    expect(await reserved()).toBe(0n);
  });
});

describe("a database that does not take the end of a turn (turns.md §10.3)", () => {
  test("is tried again and told as `finalization_failed`; the turn is left to the watchdog", async () => {
    const chatId = await app.createChat();
    const requestId = randomUUID();
    app.simulator.enqueue({ events: [{ text: "some" }, { wait_for: "no-database" }] });
    const stream = await app.send(chatId, { content: "hi", request_id: requestId });
    await stream.until("delta");
    // Whoever wants to end a turn now meets a lock time-out, as with a database that is overloaded.
    await app.db.query(`
      create function refuse_ends() returns trigger language plpgsql as $$
      begin raise exception 'busy' using errcode = '55P03'; end $$`);
    await app.db.query(
      "create trigger refuse_ends before update of state on chat_turns for each row execute function refuse_ends()",
    );
    try {
      app.simulator.open("no-database");
      expect((await stream.rest()).at(-1)).toMatchObject({
        event: "error",
        data: { code: "finalization_failed" },
      });
    } finally {
      await app.db.query("drop function refuse_ends() cascade");
    }
    expect(await turnOf(requestId)).toMatchObject({ state: "running" });
    expect(await eventsOf(requestId)).toEqual([]);
    expect(app.logs.filter((line) => line["msg"] === "finalization is tried again")).toHaveLength(3);
  });
});
