import { randomUUID } from "node:crypto";
import type { Simulator } from "@mini-chat/simulator";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { callApi, type TestApp } from "../support/app.ts";
import { callers } from "../support/config.ts";
import { type Door, newDoor } from "./doors.ts";
import { attach, everything, whileLocked } from "./support.ts";
import { type Attempt, attemptOf, completedId, type Refusal, rows, same, sound } from "./validation-rows.ts";

let ground: TestApp;
let doorOf: (door: Door) => Promise<TestApp>;
let closeDoors: () => Promise<void>;
/** A chat of Amy's with a completed and a failed turn, and one where a further turn runs. */
const chats = { used: "", busy: "" };
const failedId = randomUUID();

beforeAll(async () => {
  const doors = await newDoor();
  ({ ground, doorOf, close: closeDoors } = doors);
  for (const kind of ["used", "busy"] as const) {
    // Of the models that break something later the one that can run a turn at all.
    chats[kind] = await ground.createChat(callers.amy, { model: "m110" });
    await endTurn(ground.simulator, chats[kind], "PING", completedId);
    await endTurn(ground.simulator, chats[kind], "ERROR", failedId);
  }
  ground.simulator.enqueue({ events: [{ text: "x" }, { wait_for: "end of the tests" }] });
  await (await ground.send(chats.busy, { content: "running" }, callers.amy)).until("delta");
  await ground.db.query(
    `update quota_usage set web_search_calls = 75, code_interpreter_calls = 50, image_inputs = 50
     where user_id = $1 and period_type = 'daily' and bucket = 'total'`,
    [callers.amy.userId],
  );
});
afterAll(async () => {
  ground.simulator.open("end of the tests");
  await closeDoors();
});

const endTurn = async (simulator: Simulator, chatId: string, content: string, requestId: string) => {
  simulator.clearScenarios();
  await (await ground.send(chatId, { content, request_id: requestId }, callers.amy)).rest();
};

const chatOf = async (attempt: Attempt): Promise<string> => {
  const { short, blind, narrow } = attempt.model;
  const model = `m${short ? 1 : 0}${blind ? 1 : 0}${narrow ? 1 : 0}`;
  if (attempt.chat === "foreign") return ground.createChat(callers.bob, { model });
  if (attempt.chat === "new") return ground.createChat(callers[attempt.caller], { model });
  return chats[attempt.chat];
};

const make = async (attempt: Attempt): Promise<{ before: unknown; answer: Record<string, unknown> }> => {
  const door = await doorOf(attempt.door);
  const caller = callers[attempt.caller];
  const chatId = await chatOf(attempt);
  const owner = attempt.chat === "foreign" ? callers.bob : caller;
  const images = Array.from({ length: attempt.images }, () => attach(ground, chatId, { owner }));
  if (attempt.sheet) await attach(ground, chatId, { kind: "document", owner, forCode: true });
  const named = [...(await Promise.all(images)), ...((attempt.body["attachment_ids"] as string[]) ?? [])];
  const token = { known: caller.token, reading: `${caller.token}-reads`, unknown: "nobody" }[attempt.token];
  const before = await everything(ground);
  const path = attempt.path === "chat" ? chatId : "no-uuid";
  const answer = await callApi(`${door.base}/chats/${path}/messages:stream`, "POST", {
    caller: { ...caller, token },
    body: { ...attempt.body, ...(named.length === 0 ? {} : { attachment_ids: named }) },
    headers: { "content-type": attempt.mediaType },
  });
  expect(answer.status).toBe(answer.body.status);
  return { before, answer: answer.body };
};

const expectRefused = async (attempt: Attempt, refusal: Refusal): Promise<void> => {
  const { before, answer } = await make(attempt);
  expect(answer).toMatchObject(refusal);
  expect("quota_scope" in answer).toBe(refusal.quota_scope !== undefined);
  expect(await everything(ground)).toEqual(before);
};

describe("§23.3 every row of turns.md §4.2 refuses, and nothing is written", () => {
  test.each(rows)("row $row", async (row) => {
    await expectRefused(attemptOf([row]), row.refusal);
  });

  test("a message nothing is wrong with is answered", async () => {
    const chatId = await ground.createChat(callers.ann, { model: "m000" });
    const { events } = await ground.ask(chatId, "hi");
    expect(events.at(-1)?.event).toBe("done");
  });

  test.each([
    ["no JSON", "{"],
    ["a text with U+0000", '{"content":"a\\u0000b"}'],
    ["a text that is no Unicode", '{"content":"\\ud800"}'],
  ])("row 2: %s is 400", async (_what, text) => {
    const chatId = await ground.createChat();
    const before = await everything(ground);
    const response = await fetch(`${ground.base}/chats/${chatId}/messages:stream`, {
      method: "POST",
      headers: { authorization: `Bearer ${callers.ann.token}`, "content-type": "application/json" },
      body: text,
    });
    expect(await response.json()).toMatchObject({
      status: 400,
      code: "invalid_request",
      title: "Bad Request",
    });
    expect(await everything(ground)).toEqual(before);
  });

  test("row 9 says when to come again", async () => {
    const door = await doorOf({ ...sound().door, policyAway: true });
    const refused = await door.send(await ground.createChat(), { content: "hi" });
    expect(refused.headers["retry-after"]).toBe("5");
    expect((await refused.problem())["code"]).toBe("service_unavailable");
  });

  test("a wait for a lock of over 5 s is 503, and says when to come again", async () => {
    const chatId = await ground.createChat();
    const before = await everything(ground);
    const refused = await whileLocked(ground, "select from chats for update", () =>
      ground.send(chatId, { content: "hi" }),
    );
    expect(refused.headers["retry-after"]).toBe("5");
    expect(await refused.problem()).toMatchObject({ status: 503, code: "service_unavailable" });
    expect(await everything(ground)).toEqual(before);
  });

  test("row 20: a failure of ours at the last write is 500 and takes everything back", async () => {
    const chatId = await ground.createChat();
    await ground.db.query(`
      create function explode() returns trigger language plpgsql as $$
      begin raise exception 'boom with secret-detail' using errcode = 'XX000'; end $$`);
    await ground.db.query(
      "create trigger explode before insert on messages for each row execute function explode()",
    );
    const before = await everything(ground);
    try {
      const refused = await ground.send(chatId, { content: "hi" });
      const problem = await refused.problem();
      expect(problem).toMatchObject({ status: 500, code: "internal_error", title: "Internal Error" });
      expect(JSON.stringify(problem)).not.toContain("secret-detail");
    } finally {
      await ground.db.query("drop function explode() cascade");
    }
    expect(await everything(ground)).toEqual(before);
  });
});

describe("the first violated row of turns.md §4.2 wins", () => {
  test.each(rows.slice(0, -1).map((row, at) => ({ ...row, next: rows[at + 1]?.row, at })))(
    "row $row before row $next",
    async ({ at, refusal }) => {
      await expectRefused(attemptOf(rows.slice(at, at + 2)), refusal);
    },
  );

  test.each(rows.map((row, at) => ({ ...row, at })))(
    "row $row before all that follow",
    async ({ at, refusal }) => {
      await expectRefused(attemptOf(rows.slice(at)), refusal);
    },
  );

  test("row 6 before row 7: the id of a failed turn, while another turn runs", async () => {
    const before = await everything(ground);
    const refused = await ground.send(chats.busy, { content: "ERROR", request_id: failedId }, callers.amy);
    expect(await refused.problem()).toMatchObject(same(409, "request_id_conflict"));
    expect(await everything(ground)).toEqual(before);
  });
});
