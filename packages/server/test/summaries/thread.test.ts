import { afterAll, afterEach, beforeAll, describe, expect, test } from "vitest";
import { summaryPreamble } from "../../src/context/guards.ts";
import { eventually, type TestApp } from "../support/app.ts";
import { callers, modelEntry, premiumEntry } from "../support/config.ts";
import { samples, total } from "../turns/support.ts";
import {
  catalog,
  chatCalls,
  inputOf,
  instructionsOf,
  sized,
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
beforeAll(async () => {
  app = await summaryApp({ config: catalog(smallModel(), modelEntry("writer")) });
});
afterEach(() => {
  app.simulator.reset();
});
afterAll(() => app.close());

/** Asks until the chat has so many turns; questions and answers of 600 bytes. */
const converse = async (chatId: string, from: number, to: number): Promise<void> => {
  for (let at = from; at <= to; at += 1) {
    app.simulator.setDefault({ events: [{ text: sized(`answer ${at} `, 600) }] });
    await app.ask(chatId, sized(`question ${at} `, 600));
  }
};

const writes = (text: string, more: object = {}) =>
  app.simulator.setSummary({
    events: [{ text: `<analysis>hm</analysis><summary>${text}</summary>` }],
    ...more,
  });

const metric = (name: string) => samples(app, name);

describe("a chat that outgrows its model", () => {
  // 275 tokens a message; 5 turns fill 2 475 of 2 972, and 80 % of 3 072 are 2 457.
  test("gets a summary past the threshold, and the next request carries it with the messages behind it", async () => {
    const chatId = await app.createChat();
    writes("what was said", { usage: { input_tokens: 700, output_tokens: 90 } });
    await converse(chatId, 1, 4);
    expect(await waitingTasks(app)).toEqual([]);
    expect(summaryCalls(app)).toEqual([]);
    await converse(chatId, 5, 5);
    await eventually(async () => (await storedSummary(app, chatId)) !== undefined);
    await summariesSettled(app);

    const messages = await storedMessages(app, chatId);
    const covered = messages.slice(0, 6);
    expect(messages.map((message) => message.compressed)).toEqual(messages.map((_, at) => at < 6));
    expect(await storedSummary(app, chatId)).toMatchObject({
      text: "what was said",
      tokens: Math.ceil("what was said".length / 4),
      createdAt: covered.at(-1)?.createdAt,
      messageId: covered.at(-1)?.id,
    });
    const [call, ...more] = summaryCalls(app);
    expect(more).toEqual([]);
    expect(call?.body).toMatchObject({
      model: "provider-small",
      stream: false,
      max_output_tokens: 1_024,
      metadata: { chat_id: chatId, request_type: "summary", feature: "none" },
    });
    expect(call?.body).not.toHaveProperty("tools");
    for (const { content } of covered) expect(JSON.stringify(call?.body)).toContain(content);
    expect(JSON.stringify(call?.body)).not.toContain("question 4");

    app.simulator.clearRequests();
    const { events } = await app.ask(chatId, "and now?");
    expect(events[0]).toMatchObject({
      event: "stream_started",
      data: { thread_summary_applied: { token_estimate: 4 } },
    });
    const [next] = chatCalls(app);
    expect(next && inputOf(next)).toEqual([
      `u:${summaryPreamble}\n\nwhat was said`,
      ...messages.slice(6).map(({ role, content }) => `${role.charAt(0)}:${content}`),
      "u:and now?",
    ]);
    // Still listed, never sent again.
    const listed = await app.call("GET", `/chats/${chatId}/messages?limit=100`);
    expect(listed.body.items).toHaveLength(12);
  });

  test("one usage event in nobody's name, for the tenant, without credits; no turn, message or quota", async () => {
    const chatId = await app.createChat(callers.bob);
    writes("bob's thread", { usage: { input_tokens: 700, output_tokens: 90 } });
    const before = systemUsage(app).length;
    for (let at = 1; at <= 5; at += 1) await app.ask(chatId, sized(`question ${at} `, 1_200), callers.bob);
    const turns = (await app.db.query("select from chat_turns")).rowCount;
    await eventually(async () => (await storedSummary(app, chatId)) !== undefined);
    await eventually(() => systemUsage(app).length > before);
    const [call] = summaryCalls(app);
    expect(systemUsage(app).slice(before)).toEqual([
      expect.objectContaining({
        tenant_id: callers.bob.tenantId,
        chat_id: chatId,
        request_id: call?.headers["x-request-id"],
        effective_model: "small",
        selected_model: "small",
        requester_type: "system",
        system_task_type: "thread_summary_update",
        terminal_state: "completed",
        billing_outcome: "system_task",
        settlement_method: "none",
        actual_credits_micro: 0,
        policy_version_applied: 0,
        usage: expect.objectContaining({ input_tokens: 700, output_tokens: 90 }),
      }),
    ]);
    expect(systemUsage(app).at(-1)).not.toHaveProperty("user_id");
    expect(systemUsage(app).at(-1)).not.toHaveProperty("turn_id");
    expect(systemUsage(app).at(-1)?.["dedupe_key"]).toBe(
      [callers.bob.tenantId, "thread_summary_update", call?.headers["x-request-id"]]
        .map((part) => (part === "thread_summary_update" ? part : String(part).replaceAll("-", "")))
        .join("/"),
    );
    expect((await app.db.query("select from chat_turns")).rowCount).toBe(turns);
    expect(await storedMessages(app, chatId)).toHaveLength(10);
  });

  test("the next summary takes the last one in, and the frontier moves on", async () => {
    const chatId = await app.createChat();
    writes("first");
    await converse(chatId, 1, 5);
    await eventually(async () => (await storedSummary(app, chatId)) !== undefined);
    const first = await storedSummary(app, chatId);
    writes("second");
    // Four messages were left; with a summary only truncation fires.
    await converse(chatId, 6, 9);
    await eventually(async () => (await storedSummary(app, chatId))?.text === "second");
    const second = await storedSummary(app, chatId);
    expect(second?.id).toBe(first?.id);
    expect(Date.parse(second?.createdAt ?? "")).toBeGreaterThan(Date.parse(first?.createdAt ?? ""));
    const call = summaryCalls(app).at(-1);
    const prompt = call && inputOf(call).join("");
    expect(prompt).toContain("<existing_summary>\nfirst\n</existing_summary>");
    expect(prompt).not.toContain("question 3");
    expect(prompt).toContain("question 4");
    const messages = await storedMessages(app, chatId);
    const frontier = messages.findIndex((message) => message.id === second?.messageId);
    expect(messages.map((message) => message.compressed)).toEqual(messages.map((_, at) => at <= frontier));
  });

  test("messages that come while a summary is made stay, and are sent on the next turn (§12.11)", async () => {
    const chatId = await app.createChat();
    writes("slow", { gate: "slow" });
    await converse(chatId, 1, 5);
    await app.simulator.arrived("slow");
    await converse(chatId, 6, 6);
    const meanwhile = chatCalls(app).at(-1);
    expect(meanwhile && inputOf(meanwhile).at(-1)).toContain("question 6");
    app.simulator.open("slow");
    await eventually(async () => (await storedSummary(app, chatId)) !== undefined);
    await app.ask(chatId, "next");
    const next = chatCalls(app).at(-1);
    expect(next && inputOf(next).map((text) => text.slice(0, 12))).toEqual([
      "u:The older ",
      "u:question 4",
      "a:answer 4 .",
      "u:question 5",
      "a:answer 5 .",
      "u:question 6",
      "a:answer 6 .",
      "u:next",
    ]);
    await summariesSettled(app);
  });
});

describe("many short messages", () => {
  test("get a summary as soon as they exceed the window of recent ones", async () => {
    const chatId = await app.createChat();
    for (let at = 1; at <= 6; at += 1) await app.ask(chatId, `q${at}`);
    expect(await waitingTasks(app)).toEqual([]);
    expect(await storedSummary(app, chatId)).toBeUndefined();
    await app.ask(chatId, "q7");
    await eventually(async () => (await storedSummary(app, chatId)) !== undefined);
    const messages = await storedMessages(app, chatId);
    expect(messages.filter((message) => message.compressed)).toHaveLength(10);
  });
});

describe("a thread of 1,000 turns that was never summarised", () => {
  test("goes on in a small model, and is folded into one summary", async () => {
    const chatId = await app.createChat();
    await app.db.query(
      `insert into messages (id, tenant_id, chat_id, request_id, role, content, request_kind, created_at)
       select gen_random_uuid(), $1, $2::uuid, md5($2::text || (no - 1) / 2)::uuid,
         case no % 2 when 1 then 'user' else 'assistant' end, 'old ' || no || repeat('.', 100), 'chat',
         now() - interval '1 day' + no * interval '1 second'
       from generate_series(1, 2000) as no`,
      [callers.ann.tenantId, chatId],
    );
    writes("a long story");
    const before = await total(app, "thread_summary_trigger_total");
    const { events } = await app.ask(chatId, "still there?");
    expect(events.at(-1)?.event).toBe("done");
    await eventually(async () => (await storedSummary(app, chatId)) !== undefined);
    expect(await total(app, "thread_summary_trigger_total")).toBe(before + 1);
    expect(summaryCalls(app).length).toBeLessThanOrEqual(4);
    const messages = await storedMessages(app, chatId);
    expect(messages.filter((message) => !message.compressed)).toHaveLength(4);
    app.simulator.clearRequests();
    await app.ask(chatId, "good");
    const next = chatCalls(app).at(-1);
    expect(next && inputOf(next).map((text) => text.slice(0, 10))).toEqual([
      "u:The olde",
      "u:old 1999",
      "a:old 2000",
      "u:still th",
      "a:Hello fr",
      "u:good",
    ]);
    await summariesSettled(app);
  });
});

describe("a failing provider (§6.5)", () => {
  test("changes nothing, is tried again under one id, and given up after three attempts", async () => {
    const chatId = await app.createChat();
    app.simulator.setSummary({ http_status: 400, http_body: { error: { message: "no such thing" } } });
    await converse(chatId, 1, 5);
    await summariesSettled(app);
    const calls = summaryCalls(app);
    expect(calls).toHaveLength(3);
    expect(new Set(calls.map((call) => call.headers["x-request-id"])).size).toBe(1);
    expect(await storedSummary(app, chatId)).toBeUndefined();
    expect((await storedMessages(app, chatId)).some((message) => message.compressed)).toBe(false);
    const dead = await app.db.query<{ error: string; attempts: number }>(
      "select error, attempts from outbox_dead where payload like '%' || $1 || '%'",
      [chatId],
    );
    expect(dead.rows).toEqual([{ error: "max attempts (3) reached: provider: provider_error", attempts: 3 }]);
    expect((await metric("thread_summary_execution_total")).get('result="provider_error"')).toBe(3);

    // The range is not lost: the next trigger covers it, and more.
    writes("after all");
    await converse(chatId, 6, 6);
    await eventually(async () => (await storedSummary(app, chatId))?.text === "after all");
    expect((await storedMessages(app, chatId)).filter((message) => message.compressed)).toHaveLength(8);
  });

  test("empty and half answers are tried again, and the last summary stays in force meanwhile", async () => {
    const chatId = await app.createChat();
    writes("kept");
    await converse(chatId, 1, 5);
    await eventually(async () => (await storedSummary(app, chatId)) !== undefined);
    app.simulator.setSummary({ events: [{ text: "<analysis>only thoughts</analysis>" }] });
    app.simulator.clearRequests();
    await converse(chatId, 6, 9);
    await eventually(() => summaryCalls(app).length > 0);
    const during = await storedSummary(app, chatId);
    expect(during?.text).toBe("kept");
    app.simulator.setSummary({ events: [{ text: "<summary>cut of" }] });
    await eventually(() => summaryCalls(app).length > 1);
    writes("whole");
    await eventually(async () => (await storedSummary(app, chatId))?.text === "whole");
    expect(
      (await metric("thread_summary_execution_total")).get('result="empty_summary"'),
    ).toBeGreaterThanOrEqual(2);
    await summariesSettled(app);
  });
});

test("the context and the trigger are those of the effective model, also after a downgrade (§12.7)", async () => {
  const own = await summaryApp({
    config: {
      plugins: {
        model_policy: {
          static: {
            model_catalog: [premiumEntry("premium"), smallModel()],
            kill_switches: { force_standard_tier: true },
          },
        },
      },
    },
  });
  try {
    const chatId = await own.createChat(callers.ann, { model: "premium" });
    own.simulator.setSummary({ gate: "never" });
    own.simulator.setDefault({ events: [{ text: sized("answer ", 600) }] });
    for (let at = 1; at <= 5; at += 1) await own.ask(chatId, sized(`question ${at} `, 600));
    expect(await waitingTasks(own)).toHaveLength(1);
    await own.ask(chatId, sized("question 6 ", 600));
    const last = chatCalls(own).at(-1);
    expect(last?.body).toMatchObject({ model: "provider-small" });
    expect(last && inputOf(last)).toHaveLength(9);
  } finally {
    await own.close();
  }
});

test("a call that the open breaker keeps back is no attempt: the summary is made once it closes", async () => {
  const guarded = await summaryApp({
    config: {
      ...catalog(smallModel(), modelEntry("writer")),
      providers: { sim: { breaker: { failure_threshold: 1, open_secs: 1 } } },
      outbox: { retry_base_ms: 1, retry_max_ms: 20 },
    },
  });
  try {
    const chatId = await guarded.createChat();
    guarded.simulator.setDefault({ events: [{ text: sized("answer ", 600) }] });
    guarded.simulator.setSummary({ http_status: 500, http_body: { error: { message: "no" } } });
    for (let turn = 1; turn <= 5; turn += 1) await guarded.ask(chatId, sized(`question ${turn} `, 600));
    await eventually(() => summaryCalls(guarded).length === 1);
    guarded.simulator.setSummary({ events: [{ text: "<summary>at last</summary>" }] });
    await summariesSettled(guarded);
    expect(await storedSummary(guarded, chatId)).toMatchObject({ text: "at last" });
    const executions = await samples(guarded, "thread_summary_execution_total");
    expect(executions.get('result="provider_error"')).toBe(1);
    expect(executions.get('result="retry"')).toBeGreaterThanOrEqual(1);
  } finally {
    await guarded.close();
  }
});

test.each([
  ["a text", "700"],
  ["a fraction", 700.5],
  ["less than nothing", -700],
  ["more than there can be", 10_000_001],
])(
  "usage that cannot be, %s, counts as unknown: one call, one summary, one event (quota.md §1.3)",
  async (_what, tokens) => {
    const events = systemUsage(app).length;
    const overflows = await total(app, "credits_overflow_total");
    const chatId = await app.createChat();
    app.simulator.setSummary({
      http_status: 200,
      http_body: {
        id: "resp_1",
        status: "completed",
        output: [{ type: "message", content: [{ type: "output_text", text: "<summary>kept</summary>" }] }],
        usage: { input_tokens: tokens, output_tokens: 90 },
      },
    });
    await converse(chatId, 1, 5);
    await eventually(async () => (await storedSummary(app, chatId)) !== undefined);
    await summariesSettled(app);
    await eventually(() => systemUsage(app).length > events);
    expect(summaryCalls(app)).toHaveLength(1);
    expect(systemUsage(app).slice(events)).toMatchObject([{ usage: null }]);
    expect(await total(app, "credits_overflow_total")).toBe(overflows + 1);
    expect(app.logs.findLast(({ level }) => level === "critical")).toMatchObject({ chat_id: chatId });
  },
);

test("a call that takes too long is a time-out, and is made again", async () => {
  const own = await summaryApp({
    config: { ...catalog(smallModel()), egress: { non_streaming_timeout_secs: 1 } },
  });
  try {
    const chatId = await own.createChat();
    own.simulator.setSummary({ gate: "never" });
    for (let at = 1; at <= 7; at += 1) await own.ask(chatId, `q${at}`);
    await own.simulator.arrived("never");
    own.simulator.setSummary(null);
    await eventually(async () => (await storedSummary(own, chatId)) !== undefined);
    const results = await samples(own, "thread_summary_execution_total");
    expect(results.get('result="timeout"')).toBe(1);
    expect(results.get('result="success"')).toBe(1);
  } finally {
    await own.close();
  }
});

test("no model that could summarise: tried again, then given up; the chat goes on", async () => {
  const own = await summaryApp({
    config: {
      plugins: {
        model_policy: {
          static: { model_catalog: [premiumEntry("premium", { preference: { is_default: true } })] },
        },
      },
      thread_summary_worker: { max_attempts: 1 },
    },
  });
  try {
    const chatId = await own.createChat();
    for (let at = 1; at <= 8; at += 1) await own.ask(chatId, `q${at}`);
    await summariesSettled(own);
    expect(summaryCalls(own)).toEqual([]);
    const { rows } = await own.db.query<{ error: string }>("select distinct error from outbox_dead");
    expect(rows).toEqual([{ error: "max attempts (1) reached: NotResolvableError: no model can summarise" }]);
    const results = await samples(own, "thread_summary_execution_total");
    expect(results.get('result="retry"')).toBe(2);
  } finally {
    await own.close();
  }
});

test("a summary is never logged, nor what it was made of (ops.md §6)", async () => {
  const chatId = await app.createChat();
  writes("planted summary");
  app.simulator.setDefault({ events: [{ text: "planted answer" }] });
  for (let at = 1; at <= 7; at += 1) await app.ask(chatId, `planted question ${at}`);
  await eventually(async () => (await storedSummary(app, chatId)) !== undefined);
  await eventually(() =>
    app.logs.some((line) => line["msg"] === "thread summary" && line["chat_id"] === chatId),
  );
  const lines = app.logs.filter((line) => JSON.stringify(line).includes(chatId));
  expect(JSON.stringify(lines)).not.toContain("planted");
  const line = lines.find((one) => one["msg"] === "thread summary");
  expect(line).toMatchObject({ outcome: "committed", messages: 10, calls: 1, processing_stage: "summary" });
  const turns = lines.filter((one) => one["msg"] === "turn finalized");
  expect(new Set(turns.map((one) => one["context_hash"])).size).toBe(7);
  for (const one of turns) expect(one["context_hash"]).toMatch(/^[0-9a-f]{16}$/);
});

test("the prompt of the model goes before that of the configuration", async () => {
  const own = await summaryApp({
    config: {
      ...catalog(
        smallModel(),
        modelEntry("prompted", { thread_summary_prompt: "MODEL PROMPT", provider_model_id: "prompted" }),
      ),
      thread_summary_worker: { summary_system_prompt: "CONFIGURED", summary_model_id: "prompted" },
    },
  });
  try {
    const chatId = await own.createChat();
    for (let at = 1; at <= 7; at += 1) await own.ask(chatId, `q${at}`);
    await eventually(() => summaryCalls(own).length > 0);
    const [call] = summaryCalls(own);
    expect(call && instructionsOf(call)).toBe("MODEL PROMPT");
    expect(call?.body).toMatchObject({ model: "prompted" });
  } finally {
    await own.close();
  }
});

test("switched off, nothing is enqueued and nothing is summarised", async () => {
  const own = await summaryApp({
    config: { ...catalog(smallModel()), thread_summary_worker: { enabled: false } },
  });
  try {
    const chatId = await own.createChat();
    for (let at = 1; at <= 8; at += 1) await own.ask(chatId, `q${at}`);
    expect(await waitingTasks(own)).toEqual([]);
    expect(await total(own, "thread_summary_trigger_total")).toBe(0);
    const last = chatCalls(own).at(-1);
    expect(last && inputOf(last)).toHaveLength(11);
  } finally {
    await own.close();
  }
});
