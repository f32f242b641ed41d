import { randomUUID } from "node:crypto";
import type { Scenario } from "@mini-chat/simulator";
import { afterAll, afterEach, beforeAll, describe, expect, test } from "vitest";
import { finalizeOrphans, type OrphanDeps } from "../../src/turns/orphans.ts";
import { startTestApp, type TestApp } from "../support/app.ts";
import { callers } from "../support/config.ts";
import { type OpenedStream, openStream, textOf } from "../support/stream.ts";
import { creditsOf, eventsOf, turnRow } from "../turns/support.ts";
import { limits, orphanDeps } from "./orphans.ts";
import { ageRunningTurns } from "./support.ts";

let app: TestApp;
let deps: OrphanDeps;
beforeAll(async () => {
  // Its own watchdog does not run: the test's does, when it is asked to.
  app = await startTestApp({ config: { role: "api", providers: { sim: { expose_reasoning: true } } } });
  deps = await orphanDeps(app.db);
});
afterEach(async () => {
  app.simulator.clearScenarios();
});
afterAll(async () => {
  await app.close();
});

interface Turn {
  readonly chatId: string;
  readonly requestId: string;
  readonly stream: OpenedStream;
}

const begin = async (scenario: Scenario, onDisconnect = "continue"): Promise<Turn> => {
  const chatId = await app.createChat();
  const requestId = randomUUID();
  app.simulator.enqueue(scenario);
  const stream = await app.send(chatId, {
    content: "hi",
    request_id: requestId,
    on_disconnect: onDisconnect,
  });
  return { chatId, requestId, stream };
};

const takeForDead = async (): Promise<number> => {
  await ageRunningTurns(app.db);
  return finalizeOrphans(deps, limits, new AbortController().signal);
};

const resumed = async ({ chatId, requestId }: Turn) => {
  const stream = await openStream(`${app.base}/chats/${chatId}/turns/${requestId}/stream`, {
    method: "GET",
    headers: { authorization: `Bearer ${callers.ann.token}` },
  });
  return stream.rest();
};

const messagesOf = async ({ chatId }: Turn): Promise<{ id: string; role: string; content: string }[]> =>
  (await app.call("GET", `/chats/${chatId}/messages`)).body.items;

const statusOf = async ({ chatId, requestId }: Turn): Promise<Record<string, unknown>> =>
  (await app.call("GET", `/chats/${chatId}/turns/${requestId}`)).body;

describe("the watchdog and a turn with a log (turns.md §13, §16.2)", () => {
  test("the text that was delivered is kept under the id the client knows, and estimated", async () => {
    const before = await creditsOf(app, callers.ann);
    const turn = await begin({ events: [{ reasoning: "hm" }, { text: "kept" }, { wait_for: "kept" }] });
    const started = await turn.stream.until("stream_started");
    await turn.stream.until("delta");
    expect(await takeForDead()).toBe(1);
    const [, answer] = await messagesOf(turn);
    expect(answer).toMatchObject({ id: started.data["message_id"], role: "assistant", content: "kept" });
    expect(answer).toMatchObject({ model: "standard" });
    expect(await statusOf(turn)).toMatchObject({
      state: "cancelled",
      assistant_message_id: started.data["message_id"],
    });
    const events = await resumed(turn);
    expect(textOf(events)).toBe("kept");
    expect(events.at(-1)).toMatchObject({ event: "error", data: { code: "cancelled" } });
    const { usage, audit } = await eventsOf(app, turn.requestId);
    // What the estimate of an orphan is (quota.md §15.4): the input, and a floor of 50 at 3 each.
    expect(usage).toMatchObject({
      terminal_state: "cancelled",
      billing_outcome: "aborted",
      settlement_method: "estimated",
      usage: null,
      actual_credits_micro: 262,
    });
    expect(audit).toMatchObject({ event_type: "turn_failed" });
    expect(await creditsOf(app, callers.ann)).toMatchObject({ spent: before.spent + 262n, reserved: 0n });
    app.simulator.open("kept");
    await turn.stream.rest();
  });

  test("an owner that only seemed dead adds nothing behind the end", async () => {
    const turn = await begin({
      events: [{ text: "before" }, { wait_for: "alive" }, { text: " behind" }],
    });
    await turn.stream.until("delta");
    expect(await takeForDead()).toBe(1);
    app.simulator.open("alive");
    const rest = await turn.stream.rest();
    expect(rest).toMatchObject([{ event: "error", data: { code: "stream_interrupted" } }]);
    expect(rest[0]?.id).toBeUndefined();
    expect((await messagesOf(turn))[1]?.content).toBe("before");
    expect((await resumed(turn)).map(({ event }) => event)).toEqual(["stream_started", "delta", "error"]);
  });

  test("an owner that appends while the watchdog decides keeps its turn", async () => {
    const turn = await begin({ events: [{ text: "one" }, { wait_for: "append" }, { text: " two" }] });
    await turn.stream.until("delta");
    const { id } = await turnRow(app, turn.requestId);
    // As an append that the watchdog's look at the log came too early for.
    await app.db.query(
      `create function append_meanwhile() returns trigger language plpgsql as $$
       begin
         insert into turn_events (turn_id, seq, event, data, tenant_id)
         values (new.id, 2, 'tool', '{"phase":"start","name":"web_search","details":{}}', new.tenant_id);
         return new;
       end $$`,
    );
    await app.db.query(
      `create trigger append_meanwhile before update on chat_turns
       for each row when (new.state = 'cancelled') execute function append_meanwhile()`,
    );
    expect(await takeForDead()).toBe(0);
    await app.db.query("drop trigger append_meanwhile on chat_turns");
    expect((await turnRow(app, turn.requestId)).state).toBe("running");
    expect((await app.db.query("select from turn_events where turn_id = $1", [id])).rowCount).toBe(2);
    app.simulator.open("append");
    expect(textOf(await turn.stream.rest())).toBe(" two");
    expect((await messagesOf(turn))[1]?.content).toBe("one two");
  });

  test.each([
    ["nothing but reasoning was delivered", [{ reasoning: "hm" }], null],
    ["a part of the log is missing", [{ text: "some" }], "delete from turn_events where seq = 0"],
  ])("no message when %s: `orphan_timeout`, told by the log as well", async (_, events, damage) => {
    const gate = randomUUID();
    const turn = await begin({ events: [...events, { wait_for: gate }] });
    await turn.stream.until("delta");
    if (damage !== null) await app.db.query(damage);
    expect(await takeForDead()).toBe(1);
    expect((await messagesOf(turn)).map(({ role }) => role)).toEqual(["user"]);
    expect(await statusOf(turn)).toMatchObject({ state: "error", error_code: "orphan_timeout" });
    expect((await resumed(turn)).at(-1)).toMatchObject({ event: "error", data: { code: "orphan_timeout" } });
    app.simulator.open(gate);
    await turn.stream.rest();
  });

  test("a turn without a log loses its text as before", async () => {
    const turn = await begin({ events: [{ text: "lost" }, { wait_for: "lost" }] }, "cancel");
    await turn.stream.until("delta");
    expect(await takeForDead()).toBe(1);
    expect((await messagesOf(turn)).map(({ role }) => role)).toEqual(["user"]);
    expect((await resumed(turn)).map(({ event }) => event)).toEqual(["stream_started", "error"]);
    app.simulator.open("lost");
    await turn.stream.rest();
  });
});
