import { afterAll, beforeAll, expect, test } from "vitest";
import { eventually } from "../../server/test/support/app.ts";
import type { SendMessage, TurnResult } from "../src/index.ts";
import { type Fault, startFaultProxy } from "./faults.ts";
import { type ClientApp, clientAt, eventsOf, shownOf, startClientApp } from "./support.ts";

const answer = "Grüße!";

let app: ClientApp;
beforeAll(async () => {
  app = await startClientApp({ config: { log: { level: "error" } } });
  app.simulator.setDefault({ events: [{ text: "Grü" }, { text: "ße!" }] });
});
afterAll(() => app.close());

interface Stored {
  readonly state: string | null;
  readonly turns: number;
  readonly questions: number;
  readonly answers: readonly string[];
}

/** What the database holds of a chat, once nothing runs in it any more. */
const stored = async (chatId: string): Promise<Stored> => {
  let found: Stored | undefined;
  await eventually(async () => {
    const { rows } = await app.db.query<Stored>(
      `select
         (select min(state) from chat_turns where chat_id = $1) as state,
         (select count(*)::int from chat_turns where chat_id = $1) as turns,
         (select count(*)::int from messages where chat_id = $1 and role = 'user') as questions,
         array(select content from messages where chat_id = $1 and role = 'assistant') as answers`,
      [chatId],
    );
    found = rows[0];
    return found?.state !== "running";
  });
  if (found === undefined) throw new Error("nothing was read");
  return found;
};

interface Sent {
  readonly chatId: string;
  readonly result: TurnResult;
  /** What a reader of the events sees in the end. */
  readonly shown: string;
  /** How often the message was sent. */
  readonly sends: number;
}

/** A request that cannot have arrived is not looked for as long as one that may have. */
const patienceMs = { arrived: 10_000, lost: 300 } as const;

const sendThrough = async (
  fault: Fault,
  message: SendMessage,
  request: keyof typeof patienceMs,
): Promise<Sent> => {
  const chatId = await app.createChat();
  const proxy = await startFaultProxy(app.origin, fault, {});
  try {
    let sends = 0;
    const client = clientAt(proxy.origin, {
      recoverForMs: patienceMs[request],
      fetch: (input, init) => {
        if (init?.method === "POST") sends += 1;
        return fetch(input, init);
      },
    });
    const turn = client.send(chatId, message);
    const shown = shownOf(await eventsOf(turn));
    return { chatId, result: await turn.result(), shown, sends };
  } finally {
    await proxy.close();
  }
};

/** Nothing twice, and the result is what the database says. */
const judge = async ({ chatId, result, shown, sends }: Sent, fault: Fault): Promise<void> => {
  const { state, turns, questions, answers } = await stored(chatId);
  const seen = `${JSON.stringify(fault)} ${JSON.stringify(result)}`;
  expect(sends, seen).toBe(1);
  expect(turns, seen).toBeLessThanOrEqual(1);
  expect(questions, seen).toBe(turns);
  expect(shown, seen).toBe(result.text);
  if (result.state === "uncertain") {
    expect([result.reason, turns], seen).toEqual(["not_found", 0]);
    return;
  }
  expect([turns, state], seen).toEqual([1, result.state]);
  if (result.state === "failed") expect.unreachable(seen);
  expect(answers, seen).toEqual(result.messageId === undefined ? [] : [result.text]);
  if (result.state === "completed") expect(result.text, seen).toBe(answer);
};

/** Runs all, so many at a time; how often each end was met. */
const each = async (
  faults: readonly Fault[],
  message: SendMessage,
  request: keyof typeof patienceMs = "arrived",
): Promise<Map<string, number>> => {
  const states = new Map<string, number>();
  const waiting = [...faults];
  const work = async (): Promise<void> => {
    for (let fault = waiting.pop(); fault !== undefined; fault = waiting.pop()) {
      const sent = await sendThrough(fault, message, request);
      await judge(sent, fault);
      const how = `${sent.result.state} ${sent.result.recovered ?? ""}`.trim();
      states.set(how, (states.get(how) ?? 0) + 1);
    }
  };
  await Promise.all(Array.from({ length: request === "lost" ? 32 : 8 }, work));
  return states;
};

/** How many bytes a whole exchange has. */
const measure = async (message: SendMessage): Promise<{ request: number; response: number }> => {
  const chatId = await app.createChat();
  const proxy = await startFaultProxy(app.origin);
  await clientAt(proxy.origin).send(chatId, message).result();
  await proxy.close();
  return proxy.first;
};

const plain: SendMessage = { content: "hi" };
const continuing: SendMessage = { content: "hi", on_disconnect: "continue" };

test("a connection cut at any byte of the answer: never twice, and a true result", async () => {
  const { response } = await measure(plain);
  const cuts = Array.from({ length: response }, (_, at) => ({ response: at }));
  const states = await each(cuts, plain);
  expect(states.get("completed stored") ?? 0).toBeGreaterThan(100);
  expect(states.get("uncertain")).toBeUndefined();
}, 240_000);

test("a turn that continues, cut at any byte of the answer: always the whole answer, each piece once", async () => {
  const { response } = await measure(continuing);
  const cuts = Array.from({ length: response }, (_, at) => ({ response: at }));
  const states = await each(cuts, continuing);
  expect([...states.keys()].filter((how) => !how.startsWith("completed"))).toEqual([]);
  expect(states.get("completed resumed") ?? 0).toBeGreaterThan(100);
}, 240_000);

test("a connection cut at any byte of the request: never twice, and a true result or none", async () => {
  const { request } = await measure(plain);
  const cuts = Array.from({ length: request - 1 }, (_, at) => ({ request: at + 1 }));
  expect([...(await each(cuts, plain, "lost"))]).toEqual([["uncertain", cuts.length]]);
  const whole = await each([{ request }], plain);
  expect(whole.get("uncertain")).toBeUndefined();
}, 240_000);
