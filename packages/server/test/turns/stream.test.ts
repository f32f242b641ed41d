import { afterAll, afterEach, beforeAll, describe, expect, test } from "vitest";
import { eventually, startTestApp, type TestApp } from "../support/app.ts";
import { callers, modelEntry, premiumEntry } from "../support/config.ts";
import { textOf } from "../support/stream.ts";

let app: TestApp;
beforeAll(async () => {
  app = await startTestApp({
    config: {
      streaming: { sse_ping_interval_seconds: 5 },
      providers: { sim: { expose_reasoning: true } },
      plugins: {
        model_policy: {
          static: {
            model_catalog: [
              modelEntry("standard", { preference: { is_default: true, sort_order: 0 } }),
              premiumEntry("premium"),
              premiumEntry("retired", { enabled: false }),
            ],
            default_premium_limits: {
              limit_daily_credits_micro: 100_000,
              limit_monthly_credits_micro: 100_000,
            },
          },
        },
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

describe("§23.11 the event stream (turns.md §5)", () => {
  test("is framed and headed as promised, and carries exactly the documented fields", async () => {
    const chatId = await app.createChat();
    const stream = await app.send(chatId, { content: "PING" });
    expect(stream.headers).toMatchObject({
      "content-type": "text/event-stream",
      "cache-control": "no-cache",
      "x-accel-buffering": "no",
    });
    expect(stream.headers["content-encoding"]).toBeUndefined();
    const events = await stream.rest();
    expect(stream.raw()).toMatch(/^(event: [a-z_]+\ndata: \{.*\}\n\n)+$/);
    expect(events.map((event) => [event.event, Object.keys(event.data)])).toEqual([
      ["stream_started", ["request_id", "message_id", "is_new_turn"]],
      ["delta", ["type", "content"]],
      ["done", ["usage", "effective_model", "selected_model", "quota_decision", "quota_warnings"]],
    ]);
    expect(events[2]?.data["usage"]).toEqual({ input_tokens: 50, output_tokens: 12 });
    expect(events[2]?.data["quota_warnings"]).toMatchObject([
      { tier: "premium", period: "daily", remaining_percentage: 100, warning: false, exhausted: false },
      { tier: "premium", period: "monthly" },
      { tier: "total", period: "daily" },
      { tier: "total", period: "monthly" },
    ]);
  });

  test("pings before content and comments after it, while the provider is silent", async () => {
    const chatId = await app.createChat();
    app.simulator.enqueue({ events: [{ wait_for: "first" }, { text: "x" }, { wait_for: "second" }] });
    const stream = await app.send(chatId, { content: "wait" });
    await stream.until("stream_started");
    expect(await stream.next()).toEqual({ event: "ping", data: {} });
    app.simulator.open("first");
    await stream.until("delta");
    while (!stream.raw().includes("\n:\n")) await new Promise((resolve) => setTimeout(resolve, 20));
    app.simulator.open("second");
    expect((await stream.rest()).map((event) => event.event)).toEqual(["done"]);
    expect(stream.raw().split("event: ping")).toHaveLength(2);
  });

  test("reasoning is shown and never kept", async () => {
    const chatId = await app.createChat();
    app.simulator.enqueue({ events: [{ reasoning: "let me think" }, { text: "42" }] });
    const { events } = await app.ask(chatId, "why");
    expect(events[1]).toEqual({ event: "delta", data: { type: "reasoning", content: "let me think" } });
    expect(textOf(events)).toBe("42");
    const { body } = await app.call("GET", `/chats/${chatId}/messages`);
    expect(body.items[1].content).toBe("42");
  });

  test("citations of the web come before `done`, cleaned, and again on replay", async () => {
    const chatId = await app.createChat();
    app.simulator.enqueue({
      events: [{ text: "Found it." }, { tool: "web_search", phase: "start" }],
      citations: [
        {
          type: "url_citation",
          url: "https://u:p@example.com/a#x",
          title: "A",
          start_index: 0,
          end_index: 5,
        },
        { type: "url_citation", url: "javascript:alert(1)", title: "B" },
      ],
    });
    const requestId = "0d9b2c3e-8a4b-4c5d-9e6f-7a8b9c0d1e2f";
    const body = { content: "look", web_search: { enabled: true }, request_id: requestId };
    const items = [
      {
        source: "web",
        title: "A",
        url: "https://example.com/a",
        snippet: "Found",
        span: { start: 0, end: 5 },
      },
    ];
    const first = await (await app.send(chatId, body)).rest();
    expect(first.at(-2)).toEqual({ event: "citations", data: { items } });
    const replay = await (await app.send(chatId, body)).rest();
    expect(replay.map((event) => event.event)).toEqual(["stream_started", "delta", "citations", "done"]);
    expect(replay[2]?.data).toEqual({ items });
  });

  test("a downgrade is told with its reason (quota.md §6.4 rows 2 and 9)", async () => {
    const spent = await app.createChat(callers.amy, { model: "premium" });
    const { events } = await app.ask(spent, "x".repeat(8_000), callers.amy);
    expect(events.at(-1)?.data).toMatchObject({
      effective_model: "standard",
      selected_model: "premium",
      quota_decision: "downgrade",
      downgrade_from: "premium",
      downgrade_reason: "premium_quota_exhausted",
    });
    const { rows } = await app.db.query<{ id: string }>(
      `insert into chats (id, tenant_id, user_id, model, created_at, updated_at)
       values (gen_random_uuid(), $1, $2, 'retired', now(), now()) returning id`,
      [callers.amy.tenantId, callers.amy.userId],
    );
    const again = await app.ask(rows[0]?.id ?? "", "again", callers.amy);
    expect(again.events.at(-1)?.data).toMatchObject({
      selected_model: "retired",
      downgrade_reason: "model_disabled",
    });
  });

  test("the provider is sent the history oldest first, the question last, and no id of ours but opaque ones", async () => {
    const chatId = await app.createChat();
    await app.ask(chatId, "PING");
    await app.ask(chatId, "ERROR");
    await app.ask(chatId, "last");
    const call = app.simulator.requests().at(-1)?.body as Record<string, unknown>;
    expect(call).toMatchObject({
      model: "provider-standard",
      store: false,
      stream: true,
      max_output_tokens: 4_096,
      user: `${callers.ann.tenantId}:${callers.ann.userId}`,
    });
    expect(call["previous_response_id"]).toBeNull();
    const texts = (call["input"] as { role: string; content: { text: string }[] }[]).map(
      ({ role, content }) => [role, content[0]?.text],
    );
    expect(texts).toEqual([
      ["user", "PING"],
      ["assistant", "PONG"],
      ["user", "ERROR"],
      ["user", "last"],
    ]);
  });

  test("a client that reads slowly makes the provider wait, and still gets everything (§5.4)", async () => {
    const chatId = await app.createChat();
    app.simulator.enqueue({
      repeat: { count: 1_000, bytes: 65_536 },
      // One write per event, each waiting until the one before has left.
      chunking: "event",
      // The usual end repeats the whole text, which is more than one event may hold.
      terminal: "none",
      trailing_events: [{ event: "response.completed", data: { response: { id: "resp_1" } } }],
    });
    const stream = await app.send(chatId, { content: "read slowly" });
    stream.pause();
    const call = await app.simulator.waitForRequest((one) =>
      JSON.stringify(one.body).includes("read slowly"),
    );
    // The socket buffers on both sides fill, then the provider gets no further.
    let sent = -1;
    await eventually(async () => {
      const before = sent;
      sent = call.deltasSent;
      await new Promise((resolve) => setTimeout(resolve, 100));
      return sent > 0 && sent === before;
    });
    expect(sent).toBeLessThan(1_000);
    expect(call.closedBy).toBeNull();
    stream.resume();
    const events = await stream.rest();
    expect(events.at(-1)?.event).toBe("done");
    expect(textOf(events).length).toBe(1_000 * 65_536);
  });
});
