import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { eventually, type TestApp } from "../support/app.ts";
import { callers } from "../support/config.ts";
import { openStream } from "../support/stream.ts";
import {
  catalog,
  chatCalls,
  inputOf,
  smallModel,
  storedMessages,
  storedSummary,
  summariesSettled,
  summaryApp,
  summaryCalls,
} from "./support.ts";

let app: TestApp;
let chatId: string;
beforeAll(async () => {
  // Nothing is left outside, so that the latest turn, which alone can be changed, is in the range.
  const config = { ...catalog(smallModel()), thread_summary_worker: { keep_recent_messages: 0 } };
  app = await summaryApp({ config });
});
beforeEach(async () => {
  chatId = await app.createChat();
});
afterEach(() => app.simulator.reset());
afterAll(() => app.close());

/** Seven turns, the last one makes a summary of all due; its request id. */
const sevenTurns = async (): Promise<string> => {
  let last = "";
  for (let at = 1; at <= 7; at += 1) last = (await app.ask(chatId, `secret ${at}`)).requestId;
  return last;
};

type Change = (requestId: string) => Promise<void>;

const turnPath = (requestId: string): string => `/chats/${chatId}/turns/${requestId}`;

const streamed = async (method: string, path: string, body?: object): Promise<void> => {
  const stream = await openStream(`${app.base}${path}`, {
    method,
    headers: { authorization: `Bearer ${callers.ann.token}` },
    ...(body === undefined ? {} : { body }),
  });
  expect(stream.status).toBe(200);
  expect((await stream.rest()).at(-1)?.event).toBe("done");
};

const changes: [string, Change][] = [
  ["a retry", (requestId) => streamed("POST", `${turnPath(requestId)}/retry`)],
  ["an edit", (requestId) => streamed("PATCH", turnPath(requestId), { content: "harmless" })],
  [
    "a delete",
    async (requestId) => {
      expect((await app.call("DELETE", turnPath(requestId))).status).toBe(204);
    },
  ],
];

/** What no later request may hold: the answer that was taken back, and, unless it is asked again, its question. */
const expectGone = async (name: string): Promise<void> => {
  await app.ask(chatId, "go on");
  const last = chatCalls(app).at(-1);
  const input = last === undefined ? "" : inputOf(last).join("\n");
  expect(input).toContain("go on");
  expect(input).not.toContain("answer to be taken back");
  if (name !== "a retry") expect(input).not.toContain("secret 7");
};

describe.each(changes)("%s of a turn inside the summary (turns.md §15.3)", (name, change) => {
  test("deletes a summary that covers it, and the other messages are sent again", async () => {
    app.simulator.setSummary({ events: [{ text: "<summary>answer to be taken back, secret 7</summary>" }] });
    const last = await sevenTurns();
    await summariesSettled(app);
    expect(await storedSummary(app, chatId)).toBeDefined();
    app.simulator.setSummary({ gate: "later" });
    await change(last);
    expect(await storedSummary(app, chatId)).toBeUndefined();
    const messages = await storedMessages(app, chatId);
    expect(messages.filter((message) => message.compressed && !message.deleted)).toEqual([]);
    await expectGone(name);
    app.simulator.setSummary(null);
    app.simulator.open("later");
    await summariesSettled(app);
  });

  test("while it is being made, has it thrown away", async () => {
    app.simulator.setSummary({
      gate: "held",
      events: [{ text: "<summary>answer to be taken back, secret 7</summary>" }],
    });
    const last = await sevenTurns();
    await app.simulator.arrived("held");
    await change(last);
    // What the change itself makes due is another summary.
    app.simulator.setSummary({ events: [{ text: "<summary>anew</summary>" }] });
    app.simulator.open("held");
    await eventually(
      async () =>
        (await app.db.query("select from outbox_message where kind = 'thread_summary'")).rowCount === 0,
    );
    expect((await storedSummary(app, chatId))?.text ?? "anew").toBe("anew");
    expect(summaryCalls(app).length).toBeGreaterThan(0);
    await expectGone(name);
    await summariesSettled(app);
  });
});
