import { randomUUID } from "node:crypto";
import { afterAll, afterEach, beforeAll, describe, expect, test } from "vitest";
import { holdLock, releaseLocks } from "../crash/support.ts";
import type { TestApp } from "../support/app.ts";
import { type Caller, callers } from "../support/config.ts";
import type { OpenedStream } from "../support/stream.ts";
import { type Door, newDoor } from "./doors.ts";
import {
  type MutateOptions,
  mutate,
  newQuestion,
  type Op,
  ops,
  successorOf,
  wholeDatabase,
} from "./mutation-support.ts";
import { attach, samples, someoneWaits, whileLocked } from "./support.ts";
import { type Refusal, same } from "./validation-rows.ts";

/** turns.md §15.1, §23.3: every refusal of a retry, an edit or a delete leaves every row as it was. */

let ground: TestApp;
let doorOf: (door: Door) => Promise<TestApp>;
let closeDoors: () => Promise<void>;
beforeAll(async () => {
  ({ ground, doorOf, close: closeDoors } = await newDoor());
});
afterEach(releaseLocks);
afterAll(async () => {
  ground.simulator.open("end of the tests");
  await closeDoors();
});

const open: Door = { unlicensed: false, policyAway: false, poor: false, webOff: false, imagesOff: false };

interface Turn {
  readonly chatId: string;
  readonly requestId: string;
}

interface Asked {
  readonly content?: string;
  readonly model?: string;
  readonly images?: number;
  readonly webSearch?: boolean;
  readonly caller?: Caller;
}

/** A chat with one answered message. */
const asked = async (more: Asked = {}): Promise<Turn> => {
  const { content = "hi", model = "m000", images = 0, webSearch = false, caller = callers.ann } = more;
  ground.simulator.clearScenarios();
  const chatId = await ground.createChat(caller, { model });
  const ids: string[] = [];
  for (let at = 0; at < images; at += 1) ids.push(await attach(ground, chatId, { owner: caller }));
  return { chatId, requestId: await further(chatId, { content, webSearch, caller }, ids) };
};

const further = async (chatId: string, more: Asked = {}, images: readonly string[] = []): Promise<string> => {
  const requestId = randomUUID();
  const { content = "hi", webSearch = false, caller = callers.ann } = more;
  const body = {
    content,
    request_id: requestId,
    web_search: { enabled: webSearch },
    attachment_ids: images,
  };
  const events = await (await ground.send(chatId, body, caller)).rest();
  expect(events.at(-1)?.event).toBe("done");
  return requestId;
};

/** A chat whose latest turn runs until the end of the tests. */
const running = async (): Promise<Turn & { readonly older: string }> => {
  const { chatId, requestId: older } = await asked();
  ground.simulator.enqueue({ events: [{ text: "x" }, { wait_for: "end of the tests" }] });
  const requestId = randomUUID();
  await (await ground.send(chatId, { content: "running", request_id: requestId })).until("delta");
  return { chatId, requestId, older };
};

const setRequester = async (chatId: string): Promise<void> => {
  await ground.db.query("update chat_turns set requester_user_id = $1 where chat_id = $2", [
    callers.amy.userId,
    chatId,
  ]);
};

interface Case {
  readonly name: string;
  readonly refusal: Refusal;
  /** Makes what is refused, and says how it is asked for. */
  readonly given: () => Promise<MutateOptions & { readonly turn: Turn; readonly door?: Partial<Door> }>;
  readonly only?: readonly Op[];
  /** The result of the metric, where the refusal is one of the handler. */
  readonly counted?: string;
}

const reading: Caller = { ...callers.ann, token: `${callers.ann.token}-reads` };
const nobody: Caller = { ...callers.ann, token: "nobody" };
const badRequest: Refusal = { status: 400, code: "invalid_request", title: "Bad Request" };
const streaming: readonly Op[] = ["retry", "edit"];

const preconditions: readonly Case[] = [
  {
    name: "0 authentication",
    refusal: { status: 401, code: "unauthorized", title: "Unauthorized" },
    given: async () => ({ turn: await asked(), caller: nobody }),
  },
  {
    name: "0 licence",
    refusal: same(403, "feature_not_licensed"),
    given: async () => ({ turn: await asked(), door: { unlicensed: true } }),
  },
  {
    name: "0 chat id",
    refusal: badRequest,
    given: async () => ({ turn: { ...(await asked()), chatId: "x" } }),
  },
  {
    name: "0 turn id",
    refusal: badRequest,
    given: async () => ({ turn: { ...(await asked()), requestId: "x" } }),
  },
  {
    name: "0 if_turn_updated_at",
    refusal: badRequest,
    given: async () => ({ turn: await asked(), query: "?if_turn_updated_at=2026-02-30T00:00:00Z" }),
  },
  {
    name: "0 on_disconnect",
    refusal: badRequest,
    given: async () => ({ turn: await asked(), query: "?on_disconnect=maybe" }),
    only: ["retry"],
  },
  {
    name: "0 no content",
    refusal: { status: 422, code: "invalid_request", title: "Unprocessable Content" },
    given: async () => ({ turn: await asked(), body: {} }),
    only: ["edit"],
  },
  {
    name: "0 blank content, before the chat is looked for",
    refusal: badRequest,
    given: async () => ({
      turn: { chatId: randomUUID(), requestId: randomUUID() },
      body: { content: " \n" },
    }),
    only: ["edit"],
    counted: "error",
  },
  {
    name: "1 not allowed, before the chat is looked for",
    refusal: same(403, "forbidden"),
    given: async () => ({ turn: { chatId: randomUUID(), requestId: randomUUID() }, caller: reading }),
    counted: "forbidden",
  },
  {
    name: "2 another user's chat",
    refusal: same(404, "chat_not_found"),
    given: async () => ({ turn: await asked(), caller: callers.amy }),
    counted: "error",
  },
  {
    name: "2 another tenant's chat",
    refusal: same(404, "chat_not_found"),
    given: async () => ({ turn: await asked(), caller: callers.bob }),
    counted: "error",
  },
  {
    name: "2 a deleted chat",
    refusal: same(404, "chat_not_found"),
    given: async () => {
      const turn = await asked();
      await ground.call("DELETE", `/chats/${turn.chatId}`);
      return { turn };
    },
    counted: "error",
  },
  {
    name: "3 no such turn",
    refusal: same(404, "turn_not_found"),
    given: async () => ({ turn: { ...(await asked()), requestId: randomUUID() } }),
    counted: "error",
  },
  {
    name: "3 a turn of another chat of the caller's",
    refusal: same(404, "turn_not_found"),
    given: async () => ({ turn: { ...(await asked()), requestId: (await asked()).requestId } }),
    counted: "error",
  },
  {
    name: "3 a turn of another tenant in the caller's chat",
    refusal: same(404, "turn_not_found"),
    given: async () => ({
      turn: { ...(await asked()), requestId: (await asked({ caller: callers.bob })).requestId },
    }),
    counted: "error",
  },
  {
    name: "4 another user's turn, before its state",
    refusal: same(403, "forbidden"),
    given: async () => {
      const turn = await running();
      await setRequester(turn.chatId);
      return { turn };
    },
    counted: "forbidden",
  },
  {
    name: "5 a running turn",
    refusal: same(400, "invalid_turn_state"),
    given: async () => ({ turn: await running() }),
    counted: "invalid_state",
  },
  {
    name: "6 an older turn",
    refusal: same(409, "not_latest_turn"),
    given: async () => {
      const turn = await asked();
      await further(turn.chatId);
      return { turn };
    },
    counted: "not_latest",
  },
  {
    name: "6 an older turn while the latest runs",
    refusal: same(409, "not_latest_turn"),
    given: async () => {
      const { chatId, older } = await running();
      return { turn: { chatId, requestId: older } };
    },
    counted: "not_latest",
  },
  {
    name: "6 a replaced turn",
    refusal: same(409, "not_latest_turn"),
    given: async () => {
      const turn = await asked();
      await (await mutate(ground, "retry", turn)).rest();
      return { turn };
    },
    counted: "not_latest",
  },
  {
    name: "6 a deleted turn, also the only one of its chat",
    refusal: same(409, "not_latest_turn"),
    given: async () => {
      const turn = await asked();
      await (await mutate(ground, "delete", turn)).rest();
      return { turn };
    },
    counted: "not_latest",
  },
  {
    name: "6 a turn that changed since",
    refusal: same(409, "not_latest_turn"),
    given: async () => ({ turn: await asked(), query: "?if_turn_updated_at=2026-03-01T10:15:31.204518Z" }),
    counted: "not_latest",
  },
];

const useUp = async (): Promise<void> => {
  await ground.db.query(
    `update quota_usage set web_search_calls = 75, image_inputs = 50
     where user_id = $1 and period_type = 'daily' and bucket = 'total'`,
    [callers.amy.userId],
  );
};

/** Rows of §4.2; what a retry repeats was accepted once, so the world has to change. */
const asOfASend: readonly Case[] = [
  {
    name: "8 too many images",
    refusal: same(400, "too_many_images"),
    given: async () => {
      const turn = await asked({ images: 4 });
      const image = await attach(ground, turn.chatId);
      await ground.db.query(
        `insert into message_attachments (tenant_id, chat_id, message_id, attachment_id, position)
         select tenant_id, chat_id, id, $2, 4 from messages where request_id = $1 and role = 'user'`,
        [turn.requestId, image],
      );
      return { turn };
    },
  },
  {
    name: "9 policy",
    refusal: same(503, "service_unavailable"),
    given: async () => ({ turn: await asked(), door: { policyAway: true } }),
  },
  {
    name: "10 web search switched off",
    refusal: same(400, "web_search_disabled"),
    given: async () => ({ turn: await asked({ webSearch: true }), door: { webOff: true } }),
  },
  {
    name: "11 credits",
    refusal: same(429, "quota_exceeded", { quota_scope: "tokens" }),
    given: async () => ({ turn: await asked(), door: { poor: true } }),
  },
  {
    name: "12 web searches of the day",
    refusal: same(429, "quota_exceeded", { quota_scope: "web_search" }),
    given: async () => {
      await ground.db.query("update quota_usage set web_search_calls = 0, image_inputs = 0");
      const turn = await asked({ caller: callers.amy, webSearch: true });
      await useUp();
      return { turn, caller: callers.amy };
    },
  },
  {
    name: "14 images of the day",
    refusal: same(429, "quota_exceeded", { quota_scope: "image_inputs" }),
    given: async () => {
      await ground.db.query("update quota_usage set web_search_calls = 0, image_inputs = 0");
      const turn = await asked({ caller: callers.amy, images: 1 });
      await useUp();
      return { turn, caller: callers.amy };
    },
  },
  {
    name: "15 input too long",
    refusal: same(422, "input_too_long"),
    given: async () => ({ turn: await asked({ model: "m100" }), body: { content: "x".repeat(600) } }),
    only: ["edit"],
  },
  {
    name: "16 images switched off",
    refusal: same(400, "images_disabled"),
    given: async () => ({ turn: await asked({ images: 1 }), door: { imagesOff: true } }),
  },
  {
    name: "17 images a model's provider cannot read",
    refusal: same(415, "unsupported_media"),
    given: async () => {
      const turn = await asked({ images: 1 });
      await ground.db.query("update attachments set storage_backend = 'elsewhere' where chat_id = $1", [
        turn.chatId,
      ]);
      return { turn };
    },
  },
  {
    name: "18 an attachment that is not ready any more",
    refusal: same(400, "invalid_attachment"),
    given: async () => {
      const turn = await asked({ images: 1 });
      await ground.db.query("update attachments set status = 'uploaded' where chat_id = $1", [turn.chatId]);
      return { turn };
    },
  },
  {
    name: "18 an attachment of another uploader",
    refusal: same(400, "invalid_attachment"),
    given: async () => {
      const turn = await asked({ images: 1 });
      await ground.db.query("update attachments set uploaded_by_user_id = $2 where chat_id = $1", [
        turn.chatId,
        callers.amy.userId,
      ]);
      return { turn };
    },
  },
  {
    name: "19 context budget",
    refusal: same(422, "context_budget_exceeded"),
    given: async () => {
      const turn = await asked();
      // As if the model of the catalog had shrunk; a chat never changes its model by itself.
      await ground.db.query(`
        set session_replication_role = replica;
        update chats set model = 'm001' where id = '${turn.chatId}';
        reset session_replication_role`);
      return { turn };
    },
  },
].map((one) => ({ ...one, only: one.only ?? streaming, counted: "error" }) as Case);

const cases = [...preconditions, ...asOfASend].flatMap((one) =>
  (one.only ?? ops).map((op) => ({ ...one, op })),
);

const results = async (app: TestApp): Promise<Map<string, number>> => samples(app, "turn_mutation_total");

describe("a refused mutation changes nothing, byte for byte", () => {
  test.each(cases)("$op: row $name", async ({ op, given, refusal, counted }) => {
    const { turn, door, ...options } = await given();
    const app = await doorOf({ ...open, ...door });
    const [before, countedBefore] = [await wholeDatabase(ground.db), await results(app)];
    const calls = ground.simulator.requests().length;
    const problem = await (await mutate(app, op, turn, options)).problem();
    expect(problem).toMatchObject(refusal);
    expect("quota_scope" in problem).toBe(refusal.quota_scope !== undefined);
    expect(await wholeDatabase(ground.db)).toEqual(before);
    expect(ground.simulator.requests()).toHaveLength(calls);
    const after = await results(app);
    const grown = [...after].filter(([labels, value]) => value !== (countedBefore.get(labels) ?? 0));
    expect(grown.map(([labels]) => labels)).toEqual(
      counted === undefined ? [] : [`op="${op}",result="${counted}"`],
    );
  });

  test.each(ops)("%s: a wait for a lock of over 5 s is 503, and says when to come again", async (op) => {
    const turn = await asked();
    const before = await wholeDatabase(ground.db);
    const refused = await whileLocked(ground, "select from chats for update", () => mutate(ground, op, turn));
    expect(refused.headers["retry-after"]).toBe("5");
    expect(await refused.problem()).toMatchObject({ status: 503, code: "service_unavailable" });
    expect(await wholeDatabase(ground.db)).toEqual(before);
  });

  test.each(ops)("%s: a failure of ours at the last write is 500 and takes everything back", async (op) => {
    const turn = await asked();
    await ground.db.query(`
      create function explode() returns trigger language plpgsql as $$
      begin raise exception 'boom with secret-detail' using errcode = 'XX000'; end $$`);
    await ground.db.query(
      "create trigger explode before insert on outbox_message for each row execute function explode()",
    );
    const before = await wholeDatabase(ground.db);
    try {
      const problem = await (await mutate(ground, op, turn)).problem();
      expect(problem).toMatchObject({ status: 500, code: "internal_error", title: "Internal Error" });
      expect(JSON.stringify(problem)).not.toContain("secret-detail");
    } finally {
      await ground.db.query("drop function explode() cascade");
    }
    expect(await wholeDatabase(ground.db)).toEqual(before);
    // What was refused may come again, and now it succeeds.
    const stream = await mutate(ground, op, turn);
    expect(stream.status).toBe(op === "delete" ? 204 : 200);
    await stream.rest();
  });
});

describe("what changes between the checks and the transaction", () => {
  /** Starts the mutation, holds its transaction back at the chat, lets something happen, lets it go on. */
  const overtaken = async (
    turn: Turn,
    start: () => Promise<OpenedStream>,
    hold: string,
    meanwhile: () => Promise<unknown> = async () => {},
  ): Promise<OpenedStream> => {
    const release = await holdLock(ground.database.url, hold, [turn.chatId]);
    const asking = start();
    await someoneWaits(ground);
    await meanwhile();
    await release("commit");
    return asking;
  };
  const lockChat = "select from chats where id = $1 for update";

  test.each(ops)("%s: a turn that was changed is not the one that was seen", async (op) => {
    const turn = await asked();
    const { updated_at } = (await ground.call("GET", `/chats/${turn.chatId}/turns/${turn.requestId}`)).body;
    const query = `?if_turn_updated_at=${updated_at}`;
    const change = "update chat_turns set updated_at = now() where request_id = $1";
    const refused = await overtaken(
      turn,
      () => mutate(ground, op, turn, { query }),
      lockChat,
      () => ground.db.query(change, [turn.requestId]),
    );
    expect(await refused.problem()).toMatchObject(same(409, "not_latest_turn"));
  });

  test.each(ops)("%s: a chat that was deleted is not there", async (op) => {
    const turn = await asked();
    const remove = "update chats set deleted_at = now() where id = $1";
    const refused = await overtaken(turn, () => mutate(ground, op, turn), remove);
    expect(await refused.problem()).toMatchObject(same(404, "chat_not_found"));
  });

  test.each(streaming)(
    "%s: an attachment that was deleted is left out of links and fingerprint",
    async (op) => {
      const turn = await asked({ images: 2 });
      const linked = `
      select l.attachment_id as id
      from message_attachments l join messages m on m.id = l.message_id
      where m.request_id = $1
      order by l.position`;
      const { rows } = await ground.db.query<{ id: string }>(linked, [turn.requestId]);
      const [kept, gone] = rows.map(({ id }) => id);
      const stream = await overtaken(
        turn,
        () => mutate(ground, op, turn),
        lockChat,
        () => ground.db.query("update attachments set deleted_at = now() where id = $1", [gone]),
      );
      const requestId = await successorOf(stream);
      expect((await ground.db.query(linked, [requestId])).rows).toEqual([{ id: kept }]);
      const content = op === "edit" ? newQuestion : "hi";
      const again = { content, request_id: requestId, attachment_ids: [kept] };
      const replay = await (await ground.send(turn.chatId, again)).rest();
      expect(replay[0]?.data["is_new_turn"]).toBe(false);
    },
  );
});
