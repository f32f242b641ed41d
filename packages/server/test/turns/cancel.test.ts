import { randomUUID } from "node:crypto";
import type { Scenario } from "@mini-chat/simulator";
import { afterAll, afterEach, beforeAll, describe, expect, test, vi } from "vitest";
import { asTenantId } from "../../src/auth/actor.ts";
import { noLogger } from "../../src/telemetry/log.ts";
import { RunningTurns } from "../../src/turns/cancellation.ts";
import { startProgressClock } from "../../src/turns/progress.ts";
import { requestCancel } from "../../src/turns/store.ts";
import { eventually, startTestApp, type TestApp } from "../support/app.ts";
import { callers } from "../support/config.ts";
import type { OpenedStream } from "../support/stream.ts";
import {
  creditsOf,
  ended,
  eventsOf,
  everything,
  someoneWaits,
  total,
  turnRow,
  whileLocked,
} from "./support.ts";

const reader = { ...callers.ann, token: "token-ann-reads" };

let app: TestApp;
beforeAll(async () => {
  app = await startTestApp({
    config: {
      role: "api",
      auth: {
        tokens: [...Object.values(callers), { ...reader, scopes: ["ai:mini_chat:read"] }].map(
          ({ token, tenantId, userId, ...more }) => ({
            token,
            tenant_id: tenantId,
            user_id: userId,
            ...more,
          }),
        ),
      },
    },
  });
});
afterEach(() => {
  app.simulator.clearScenarios();
});
afterAll(async () => {
  await app.close();
});

interface Running {
  readonly chatId: string;
  readonly requestId: string;
  readonly stream: OpenedStream;
  readonly path: string;
}

const begin = async (scenario: Scenario, first = "delta"): Promise<Running> => {
  const chatId = await app.createChat();
  const requestId = randomUUID();
  app.simulator.enqueue(scenario);
  const stream = await app.send(chatId, { content: "hi", request_id: requestId });
  await stream.until(first);
  return { chatId, requestId, stream, path: `/chats/${chatId}/turns/${requestId}/cancel` };
};

const silent: Scenario = { events: [{ wait_for: "never" }] };
const talking: Scenario = { events: [{ text: "some" }, { wait_for: "never" }] };

describe("POST …/cancel (turns.md §16.1)", () => {
  test("leaves no timer behind when the turn ended before its time", async () => {
    const { path } = await begin(talking);
    const set = vi.spyOn(globalThis, "setTimeout");
    const cleared = vi.spyOn(globalThis, "clearTimeout");
    expect((await app.call("POST", path)).body).toMatchObject({ state: "cancelled" });
    const waits = set.mock.results.filter((_, at) => {
      const ms = set.mock.calls[at]?.[1] ?? 0;
      return ms > 1_500 && ms < 2_000;
    });
    expect(waits).toHaveLength(1);
    expect(cleared.mock.calls.flat()).toContain(waits[0]?.value);
    vi.restoreAllMocks();
  });

  test("§23.12 before any text: no message; the stream ends with `cancelled`", async () => {
    const { chatId, requestId, stream, path } = await begin(silent, "stream_started");
    expect(await app.call("POST", path)).toMatchObject({
      status: 200,
      body: { request_id: requestId, state: "cancelled" },
    });
    expect((await stream.rest()).map((event) => [event.event, event.data["code"]])).toEqual([
      ["error", "cancelled"],
    ]);
    const status = await app.call("GET", `/chats/${chatId}/turns/${requestId}`);
    expect(Object.keys(status.body)).toEqual(["request_id", "state", "updated_at"]);
    const { items } = (await app.call("GET", `/chats/${chatId}/messages`)).body;
    expect(items).toHaveLength(1);
  });

  test("§23.4 ten at once: all see the one end; settled once", async () => {
    const before = await creditsOf(app, callers.ann);
    const { requestId, stream, path } = await begin(talking);
    const answers = await Promise.all(Array.from({ length: 10 }, () => app.call("POST", path)));
    for (const answer of answers) {
      expect(answer).toMatchObject({ status: 200, body: { state: "cancelled" } });
      expect(answer.body).toHaveProperty("assistant_message_id");
    }
    await stream.rest();
    await eventsOf(app, requestId);
    expect((await creditsOf(app, callers.ann)).calls).toBe(before.calls + 1);
  });

  test.each([
    ["completed", "PING", "done"],
    ["failed", "ERROR", "error"],
  ])("of a %s turn answers with its status and changes nothing", async (_state, content, state) => {
    const chatId = await app.createChat();
    const { requestId } = await app.ask(chatId, content);
    const before = await everything(app);
    const answer = await app.call("POST", `/chats/${chatId}/turns/${requestId}/cancel`);
    expect(answer).toMatchObject({ status: 200, body: { request_id: requestId, state } });
    expect(answer.body).toEqual((await app.call("GET", `/chats/${chatId}/turns/${requestId}`)).body);
    expect(await everything(app)).toEqual(before);
  });

  test("202 with `running` when the end does not come within 2 s; then it comes", async () => {
    const { requestId, stream, path } = await begin(talking);
    const answer = await whileLocked(app, "select from quota_usage for update", async () => {
      const askedAt = performance.now();
      const asked = app.call("POST", path);
      await someoneWaits(app);
      return asked.finally(() => expect(performance.now() - askedAt).toBeLessThan(3_500));
    });
    expect(answer).toMatchObject({ status: 202, body: { request_id: requestId, state: "running" } });
    expect((await ended(app, requestId)).state).toBe("cancelled");
    expect((await stream.rest()).at(-1)?.data["code"]).toBe("cancelled");
  });

  test("refusals: a foreign chat, an unknown turn, no right to cancel", async () => {
    const { path, stream, chatId, requestId } = await begin(talking);
    const before = await everything(app);
    expect(await app.call("POST", path, { caller: callers.amy })).toMatchObject({
      status: 404,
      body: { code: "chat_not_found", title: "chat_not_found" },
    });
    expect(await app.call("POST", `/chats/${chatId}/turns/${randomUUID()}/cancel`)).toMatchObject({
      status: 404,
      body: { code: "turn_not_found", title: "turn_not_found" },
    });
    expect(await app.call("POST", path, { caller: reader })).toMatchObject({
      status: 403,
      body: { code: "forbidden", title: "forbidden" },
    });
    expect(await app.call("GET", `/chats/${chatId}/turns/${requestId}`, { caller: reader })).toMatchObject({
      status: 200,
      body: { state: "running" },
    });
    expect(await everything(app)).toEqual(before);
    await app.call("POST", path);
    await stream.rest();
  });

  test("is measured: requested, effective, aborted as the user's stop", async () => {
    const names = ["cancel_requested_total", "cancel_effective_total", "time_to_abort_ms_count"];
    const before = await Promise.all(names.map((name) => total(app, name)));
    const { path, stream } = await begin(talking);
    await app.call("POST", path);
    await stream.rest();
    await eventually(async () => (await total(app, "cancel_effective_total")) > (before[1] ?? 0));
    const after = await Promise.all(names.map((name) => total(app, name)));
    expect(after).toEqual(before.map((value) => value + 1));
  });
});

describe("a request to cancel whose notification was lost (turns.md §16.1)", () => {
  test("is found by the owner with its next progress write, which moves the clock", async () => {
    const { chatId, requestId, path, stream } = await begin(talking);
    const { id } = await turnRow(app, requestId);
    await app.db.query(
      "update chat_turns set last_progress_at = now() - interval '10 minutes' where id = $1",
      [id],
    );
    // The owner as another process has it: it hears of nothing but what its own writes bring back.
    const tenantId = asTenantId(callers.ann.tenantId);
    const running = new RunningTurns();
    const owned = running.add(id, tenantId);
    running.setGenerating(id, true);
    const stop = startProgressClock({ db: app.db, running, logger: noLogger, everyMs: 5 });
    try {
      await eventually(async () => !(await isStale(id)));
      expect(owned.reason).toBeNull();
      await requestCancel(app.db, tenantId, chatId, requestId, "user_stop");
      await eventually(() => owned.reason !== null);
      expect(owned.reason).toBe("user_stop");
    } finally {
      stop();
    }
    await app.call("POST", path);
    await stream.rest();
  });
});

const isStale = async (id: string): Promise<boolean> =>
  (
    await app.db.query(
      "select from chat_turns where id = $1 and last_progress_at < now() - interval '1 minute'",
      [id],
    )
  ).rowCount > 0;
