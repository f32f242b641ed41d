import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { eventually, startTestApp, type TestApp } from "../support/app.ts";
import { callers } from "../support/config.ts";
import { textOf } from "../support/stream.ts";

let app: TestApp;
beforeAll(async () => {
  app = await startTestApp();
});
afterAll(async () => {
  await app.close();
});

describe("a message through the house", () => {
  test("is answered, charged once, stored, and its events are delivered", async () => {
    const chatId = await app.createChat();
    const { requestId, events } = await app.ask(chatId, "PING");
    expect(events.map((event) => event.event)).toEqual(["stream_started", "delta", "done"]);
    expect(textOf(events)).toBe("PONG");

    const status = await app.call("GET", `/chats/${chatId}/turns/${requestId}`);
    expect(status).toMatchObject({ status: 200, body: { request_id: requestId, state: "done" } });

    const messages = await app.call("GET", `/chats/${chatId}/messages`);
    expect(messages.body.items).toMatchObject([
      { role: "user", content: "PING", request_id: requestId },
      { role: "assistant", content: "PONG", request_id: requestId, model: "standard" },
    ]);

    const quota = await app.call("GET", "/quota/status", { caller: callers.ann });
    const { rows } = await app.db.query<{ spent: bigint; reserved: bigint }>(
      "select spent_credits_micro as spent, reserved_credits_micro as reserved from quota_usage where period_type = 'daily'",
    );
    expect(rows).toEqual([{ spent: expect.any(BigInt), reserved: 0n }]);
    expect(rows[0]?.spent).toBeGreaterThan(0n);
    expect(quota.body.tiers[1].periods[0].used_credits_micro).toBe(Number(rows[0]?.spent));

    await eventually(async () => (await app.db.query("select from outbox_message")).rowCount === 0);
    expect((await app.db.query("select from outbox_dead")).rowCount).toBe(0);
  });
});
