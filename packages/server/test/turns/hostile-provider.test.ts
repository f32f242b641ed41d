import { afterAll, afterEach, beforeAll, describe, expect, test } from "vitest";
import { callApi, startTestApp, type TestApp } from "../support/app.ts";
import { textOf } from "../support/stream.ts";

let app: TestApp;
beforeAll(async () => {
  app = await startTestApp();
});
afterEach(() => {
  app.simulator.clearScenarios();
});
afterAll(async () => {
  await app.close();
});

const completed = (response: Record<string, unknown>) => ({
  terminal: "none" as const,
  events: [
    { text: "an answer" },
    { event: "response.completed", data: { response: { id: "resp_1", ...response } } },
  ],
});

const turnOf = async (chatId: string): Promise<Record<string, unknown> | undefined> =>
  (
    await app.db.query(
      `select id, state, error_code, error_detail, provider_response_id, reserved_credits_micro as reserve
       from chat_turns where chat_id = $1 order by started_at desc limit 1`,
      [chatId],
    )
  ).rows[0];

const reservedCredits = async (): Promise<bigint> =>
  (
    await app.db.query<{ reserved: bigint }>(
      "select coalesce(sum(reserved_credits_micro), 0)::bigint as reserved from quota_usage",
    )
  ).rows[0]?.reserved ?? -1n;

const overflows = async (): Promise<number> => {
  const { body } = await callApi(`${app.opsBase}/metrics`, "GET", { caller: null });
  return Number(/^mini_chat_credits_overflow_total (\d+)$/m.exec(body)?.[1]);
};

const usage = { input_tokens: 10, output_tokens: 5 };

describe("text of a provider that PostgreSQL refuses (turns.md §10.1: every turn ends)", () => {
  test.each([
    ["longer than its column", `resp_${"x".repeat(124)}`],
    ["with U+0000", "resp_\0"],
  ])("a response id %s is left out, the answer stays", async (_what, id) => {
    const chatId = await app.createChat();
    app.simulator.enqueue(completed({ id, usage }));
    const { events } = await app.ask(chatId, "hi");
    expect(events.at(-1)?.event).toBe("done");
    expect(await turnOf(chatId)).toMatchObject({ state: "completed", provider_response_id: null });
  });

  test("an error text with U+0000 fails the turn as any other error", async () => {
    const chatId = await app.createChat();
    app.simulator.enqueue({ error: { code: "x", message: "bad\0thing" } });
    const { events } = await app.ask(chatId, "hi");
    expect(events.at(-1)).toMatchObject({ event: "error", data: { code: "provider_error" } });
    expect(await turnOf(chatId)).toMatchObject({ state: "failed", error_code: "provider_error" });
    expect(await reservedCredits()).toBe(0n);
  });

  test("so does an HTTP error whose body holds U+0000", async () => {
    const chatId = await app.createChat();
    app.simulator.enqueue({ http_status: 500, http_body: "oops\0" });
    const { events } = await app.ask(chatId, "hi");
    expect(events.at(-1)).toMatchObject({ event: "error", data: { code: "provider_error" } });
    expect(await turnOf(chatId)).toMatchObject({ state: "failed" });
  });

  test("U+0000 in the answer is left out of what is shown and of what is kept alike", async () => {
    const chatId = await app.createChat();
    app.simulator.enqueue({ events: [{ text: "he\0l" }, { text: "lo" }] });
    const { events } = await app.ask(chatId, "hi");
    expect(events.at(-1)?.event).toBe("done");
    expect(textOf(events)).toBe("hello");
    const { body } = await app.call("GET", `/chats/${chatId}/messages`);
    expect(body.items[1].content).toBe("hello");
  });
});

describe("usage no provider can mean (quota.md §1.3)", () => {
  test.each([
    ["above the maximum", 20_000_000, 5],
    ["negative", -5, 300],
    ["absurd", 1e30, 3],
    ["fractional", 10.5, 3],
    ["not a number", "ten", 3],
  ])(
    "%s is unknown: estimated, counted, logged as critical, never stored or shown",
    async (_what, input, output) => {
      const before = await overflows();
      const chatId = await app.createChat();
      app.simulator.enqueue(completed({ usage: { input_tokens: input, output_tokens: output } }));
      const { events } = await app.ask(chatId, "hi");
      expect(events.at(-1)).toMatchObject({ event: "done", data: { usage: null } });
      expect(await overflows()).toBe(before + 1);
      const line = app.logs.findLast(({ level }) => level === "critical");
      expect(line).toMatchObject({ turn_id: (await turnOf(chatId))?.["id"] });
      const { body } = await app.call("GET", `/chats/${chatId}/messages`);
      expect(body.items[1]).not.toHaveProperty("input_tokens");
      const next = await app.ask(chatId, "and again");
      expect(next.events.at(-1)?.event).toBe("done");
      expect(await reservedCredits()).toBe(0n);
    },
  );

  test("all zeros are unknown too: null in `done`, as a replay tells it", async () => {
    const chatId = await app.createChat();
    app.simulator.enqueue({ events: [{ text: "x" }], usage: "zero" });
    const { events } = await app.ask(chatId, "hi");
    expect(events.at(-1)).toMatchObject({ event: "done", data: { usage: null } });
  });
});
