import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { type ClientApp, eventsOf, startClientApp } from "./support.ts";

let app: ClientApp;
beforeAll(async () => {
  app = await startClientApp();
});
afterAll(() => app.close());

describe("send", () => {
  test("streams typed events and ends with the result", async () => {
    const chat = await app.client.chats.create({ title: "One" });
    app.simulator.enqueue({ events: [{ text: "Hel" }, { text: "lo" }] });
    const turn = app.client.send(chat.id, { content: "hi" });
    const events = await eventsOf(turn);
    expect(events.map(({ type }) => type)).toEqual(["stream_started", "delta", "delta", "done"]);
    expect(turn.text).toBe("Hello");
    expect(await turn.result()).toMatchObject({
      state: "completed",
      requestId: turn.requestId,
      messageId: turn.messageId,
      text: "Hello",
      done: { effective_model: "standard" },
    });
    const page = await app.client.messages(chat.id).page();
    expect(page.items.map(({ role, content }) => [role, content])).toEqual([
      ["user", "hi"],
      ["assistant", "Hello"],
    ]);
  });
});
