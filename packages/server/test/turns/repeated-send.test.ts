import { randomUUID } from "node:crypto";
import { afterAll, afterEach, beforeAll, describe, expect, test } from "vitest";
import { eventually, startTestApp, type TestApp } from "../support/app.ts";
import { modelEntry } from "../support/config.ts";
import { textOf } from "../support/stream.ts";
import { attach, everything, turnRow } from "./support.ts";

let app: TestApp;
beforeAll(async () => {
  app = await startTestApp({
    config: {
      role: "api",
      plugins: {
        model_policy: {
          static: {
            model_catalog: [
              modelEntry("standard", {
                preference: { is_default: true, sort_order: 0 },
                multimodal_capabilities: ["VISION_INPUT"],
              }),
            ],
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

interface Sent {
  readonly chatId: string;
  readonly body: { readonly content: string; readonly request_id: string };
  /** Lets a running turn end. */
  readonly release: () => Promise<void>;
}

const bodyOf = (content: string) => ({ content, request_id: randomUUID() });

const send = async (content: string): Promise<Sent> => {
  const chatId = await app.createChat();
  const body = bodyOf(content);
  await (await app.send(chatId, body)).rest();
  return { chatId, body, release: async () => {} };
};

const sendRunning = async (): Promise<Sent> => {
  const chatId = await app.createChat();
  const body = bodyOf("hi");
  const gate = body.request_id;
  app.simulator.enqueue({ events: [{ text: "x" }, { wait_for: gate }] });
  const stream = await app.send(chatId, body);
  await stream.until("delta");
  return {
    chatId,
    body,
    release: async () => {
      app.simulator.open(gate);
      await stream.rest();
    },
  };
};

const sendCancelled = async (): Promise<Sent> => {
  const running = await sendRunning();
  await app.call("POST", `/chats/${running.chatId}/turns/${running.body.request_id}/cancel`);
  return { ...running, release: async () => {} };
};

const sendDeleted = async (): Promise<Sent> => {
  const sent = await send("PING");
  await app.db.query("update chat_turns set deleted_at = now() where request_id = $1", [
    sent.body.request_id,
  ]);
  await app.db.query("update messages set deleted_at = now() where request_id = $1", [sent.body.request_id]);
  return sent;
};

const states: readonly { state: string; make: () => Promise<Sent>; same: number }[] = [
  { state: "running", make: sendRunning, same: 409 },
  { state: "completed", make: () => send("PING"), same: 200 },
  { state: "failed", make: () => send("ERROR"), same: 409 },
  { state: "cancelled", make: sendCancelled, same: 409 },
  { state: "deleted", make: sendDeleted, same: 409 },
];

describe("§23.10 a send whose request_id is known (turns.md §6)", () => {
  test.each(states)("$state: the same body is $same, any other 422", async ({ state, make, same }) => {
    const { chatId, body, release } = await make();
    const before = await everything(app);
    const calls = app.simulator.requests().length;
    const again = await app.send(chatId, body);
    expect(again.status).toBe(same);
    if (same === 409) expect(await again.problem()).toMatchObject({ code: "request_id_conflict" });
    else await again.rest();
    const status = `/v1/chats/${chatId}/turns/${body.request_id}`;
    expect(again.headers["location"]).toBe(state === "running" ? status : undefined);
    for (const other of [
      { ...body, content: `${body.content} ` },
      { ...body, web_search: { enabled: true } },
      { ...body, attachment_ids: [randomUUID()] },
    ]) {
      const mismatch = await app.send(chatId, other);
      expect(await mismatch.problem()).toMatchObject({ code: "idempotency_mismatch", status: 422 });
    }
    expect(await everything(app)).toEqual(before);
    expect(app.simulator.requests()).toHaveLength(calls);
    await release();
  });

  test("what does not count: case of ids, order of attachments, absent or false, unknown fields", async () => {
    const chatId = await app.createChat();
    const ids = [await attach(app, chatId), await attach(app, chatId)];
    const requestId = randomUUID();
    const body = { content: "see", request_id: requestId, attachment_ids: ids };
    await (await app.send(chatId, body)).rest();
    const again = await app.send(chatId, {
      ...body,
      request_id: requestId.toUpperCase(),
      attachment_ids: ids.toReversed().map((id) => id.toUpperCase()),
      web_search: { enabled: false },
      on_disconnect: "continue",
      unknown: 1,
    });
    expect((await again.rest())[0]?.data).toMatchObject({ is_new_turn: false, request_id: requestId });
  });

  test("the same id in another chat is another turn", async () => {
    const { body } = await send("PING");
    const stream = await app.send(await app.createChat(), body);
    expect((await stream.rest())[0]?.data).toMatchObject({ is_new_turn: true });
  });
});

describe("§23.8 a replay tells what is stored", () => {
  test("an answer without text and without usage: one empty delta, usage null", async () => {
    const chatId = await app.createChat();
    const body = bodyOf("say nothing");
    app.simulator.enqueue({ usage: "absent" });
    const first = await (await app.send(chatId, body)).rest();
    const replay = await (await app.send(chatId, body)).rest();
    expect(replay).toEqual([
      {
        event: "stream_started",
        data: { ...first[0]?.data, is_new_turn: false },
      },
      { event: "delta", data: { type: "text", content: "" } },
      {
        event: "done",
        data: {
          usage: null,
          effective_model: "standard",
          selected_model: "standard",
          quota_decision: "allow",
        },
      },
    ]);
    expect(replay[0]?.data["message_id"]).toBe((await turnRow(app, body.request_id)).messageId);
  });

  test("a long answer with every kind of character comes in one delta, letter by letter the same", async () => {
    const chatId = await app.createChat();
    const body = bodyOf("much");
    const parts = ["ä\n\r\n\t", "\u0085 data: x\n\nevent: done\n\n", '👩‍💻\u0001"\\', "z".repeat(70_000)];
    app.simulator.enqueue({ events: parts.map((text) => ({ text })) });
    const first = await (await app.send(chatId, body)).rest();
    expect(textOf(first)).toBe(parts.join(""));
    const replay = await (await app.send(chatId, body)).rest();
    expect(replay.map((event) => event.event)).toEqual(["stream_started", "delta", "done"]);
    expect(textOf(replay)).toBe(parts.join(""));
  });
});

describe("sends of one request_id at once (turns.md §4.2, races on rows 6–7)", () => {
  test("the same body: one turn; all others are told of this very turn", async () => {
    for (let round = 0; round < 5; round += 1) {
      const chatId = await app.createChat();
      const body = bodyOf("hi");
      app.simulator.enqueue({ events: [{ text: "x" }, { wait_for: body.request_id }] });
      const streams = await Promise.all(Array.from({ length: 8 }, () => app.send(chatId, body)));
      const opened = streams.filter((stream) => stream.status === 200);
      expect(opened).toHaveLength(1);
      for (const refused of streams.filter((stream) => stream.status !== 200)) {
        expect(await refused.problem()).toMatchObject({ code: "request_id_conflict", status: 409 });
        expect(refused.headers["location"]).toBe(`/v1/chats/${chatId}/turns/${body.request_id}`);
      }
      app.simulator.open(body.request_id);
      expect((await opened[0]?.rest())?.at(-1)?.event).toBe("done");
    }
  });

  test("different bodies: one turn; whoever comes second is 422", async () => {
    for (let round = 0; round < 5; round += 1) {
      const chatId = await app.createChat();
      const requestId = randomUUID();
      app.simulator.enqueue({ events: [{ text: "x" }, { wait_for: requestId }] });
      const streams = await Promise.all(
        Array.from({ length: 8 }, (_, at) => app.send(chatId, { content: `${at}`, request_id: requestId })),
      );
      const opened = streams.filter((stream) => stream.status === 200);
      expect(opened).toHaveLength(1);
      for (const refused of streams.filter((stream) => stream.status !== 200)) {
        expect(await refused.problem()).toMatchObject({ code: "idempotency_mismatch", status: 422 });
      }
      app.simulator.open(requestId);
      await opened[0]?.rest();
      const { rows } = await app.db.query(
        "select role from messages where chat_id = $1 order by created_at",
        [chatId],
      );
      expect(rows).toEqual([{ role: "user" }, { role: "assistant" }]);
    }
  });
});

describe("§23.2 a running turn", () => {
  test("has its question and its reserve committed before the provider hears of it", async () => {
    const { chatId, body, release } = await sendRunning();
    const { rows } = await app.db.query(
      `select t.state, t.reserve_tokens > 0 as reserved, m.content,
         (select sum(r.reserved_credits_micro) from chat_turns r where r.state = 'running')
           = (select reserved_credits_micro from quota_usage where period_type = 'daily' and bucket = 'total')
           as held
       from chat_turns t
       join messages m on m.chat_id = t.chat_id and m.request_id = t.request_id
       where t.request_id = $1`,
      [body.request_id],
    );
    expect(rows).toEqual([{ state: "running", reserved: true, content: "hi", held: true }]);
    expect((await app.call("GET", `/chats/${chatId}/turns/${body.request_id}`)).body).toMatchObject({
      state: "running",
    });
    await release();
  });
});

test("a turn that is deleted between the two reads of its repetition is a used id, no fault (§6)", async () => {
  const { chatId, body } = await send("PING");
  const holder = await app.db.pool.connect();
  try {
    await holder.query("begin");
    await holder.query("lock table messages in access exclusive mode");
    const repeated = app.send(chatId, body);
    await eventually(async () => {
      const { rows } = await app.db.query(
        `select from pg_locks
         where relation = 'messages'::regclass
           and not granted
           and database = (select oid from pg_database where datname = current_database())`,
      );
      return rows.length > 0;
    });
    await holder.query("update chat_turns set deleted_at = now() where chat_id = $1", [chatId]);
    await holder.query("update messages set deleted_at = now() where chat_id = $1", [chatId]);
    await holder.query("commit");
    const answer = await repeated;
    expect(answer.status).toBe(409);
    expect(await answer.problem()).toMatchObject({ code: "request_id_conflict" });
  } finally {
    holder.release();
  }
});
