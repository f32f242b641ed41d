import { randomUUID } from "node:crypto";
import { type Caller, callers } from "../support/config.ts";
import type { Door } from "./doors.ts";
import { type MutateOptions, mutate, type Op, ops } from "./mutation-support.ts";
import type { Turn, World } from "./mutation-world.ts";
import { attach } from "./support.ts";
import { type Refusal, same } from "./validation-rows.ts";

export interface Case {
  readonly name: string;
  readonly refusal: Refusal;
  /** Makes what is refused, and says how it is asked for. */
  readonly given: (
    world: World,
  ) => Promise<MutateOptions & { readonly turn: Turn; readonly door?: Partial<Door> }>;
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
    given: async ({ asked }) => ({ turn: await asked(), caller: nobody }),
  },
  {
    name: "0 licence",
    refusal: same(403, "feature_not_licensed"),
    given: async ({ asked }) => ({ turn: await asked(), door: { unlicensed: true } }),
  },
  {
    name: "0 chat id",
    refusal: badRequest,
    given: async ({ asked }) => ({ turn: { ...(await asked()), chatId: "x" } }),
  },
  {
    name: "0 turn id",
    refusal: badRequest,
    given: async ({ asked }) => ({ turn: { ...(await asked()), requestId: "x" } }),
  },
  {
    name: "0 if_turn_updated_at",
    refusal: badRequest,
    given: async ({ asked }) => ({ turn: await asked(), query: "?if_turn_updated_at=2026-02-30T00:00:00Z" }),
  },
  {
    name: "0 on_disconnect",
    refusal: badRequest,
    given: async ({ asked }) => ({ turn: await asked(), query: "?on_disconnect=maybe" }),
    only: ["retry"],
  },
  {
    name: "0 no content",
    refusal: { status: 422, code: "invalid_request", title: "Unprocessable Content" },
    given: async ({ asked }) => ({ turn: await asked(), body: {} }),
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
    given: async ({ asked }) => ({ turn: await asked(), caller: callers.amy }),
    counted: "error",
  },
  {
    name: "2 another tenant's chat",
    refusal: same(404, "chat_not_found"),
    given: async ({ asked }) => ({ turn: await asked(), caller: callers.bob }),
    counted: "error",
  },
  {
    name: "2 a deleted chat",
    refusal: same(404, "chat_not_found"),
    given: async ({ ground, asked }) => {
      const turn = await asked();
      await ground.call("DELETE", `/chats/${turn.chatId}`);
      return { turn };
    },
    counted: "error",
  },
  {
    name: "3 no such turn",
    refusal: same(404, "turn_not_found"),
    given: async ({ asked }) => ({ turn: { ...(await asked()), requestId: randomUUID() } }),
    counted: "error",
  },
  {
    name: "3 a turn of another chat of the caller's",
    refusal: same(404, "turn_not_found"),
    given: async ({ asked }) => ({ turn: { ...(await asked()), requestId: (await asked()).requestId } }),
    counted: "error",
  },
  {
    name: "3 a turn of another tenant in the caller's chat",
    refusal: same(404, "turn_not_found"),
    given: async ({ asked }) => ({
      turn: { ...(await asked()), requestId: (await asked({ caller: callers.bob })).requestId },
    }),
    counted: "error",
  },
  {
    name: "4 another user's turn, before its state",
    refusal: same(403, "forbidden"),
    given: async ({ ground, running }) => {
      const turn = await running();
      await ground.db.query("update chat_turns set requester_user_id = $1 where chat_id = $2", [
        callers.amy.userId,
        turn.chatId,
      ]);
      return { turn };
    },
    counted: "forbidden",
  },
  {
    name: "5 a running turn",
    refusal: same(400, "invalid_turn_state"),
    given: async ({ running }) => ({ turn: await running() }),
    counted: "invalid_state",
  },
  {
    name: "5 a running turn, before the policy is asked for",
    refusal: same(400, "invalid_turn_state"),
    given: async ({ running }) => ({ turn: await running(), door: { policyAway: true } }),
    counted: "invalid_state",
  },
  {
    name: "6 an older turn, before the policy is asked for",
    refusal: same(409, "not_latest_turn"),
    given: async ({ asked, further }) => {
      const turn = await asked();
      await further(turn.chatId);
      return { turn, door: { policyAway: true } };
    },
    counted: "not_latest",
  },
  {
    name: "6 a turn that changed since, before the policy is asked for",
    refusal: same(409, "not_latest_turn"),
    given: async ({ asked }) => ({
      turn: await asked(),
      query: "?if_turn_updated_at=2026-03-01T10:15:31Z",
      door: { policyAway: true },
    }),
    counted: "not_latest",
  },
  {
    name: "6 an older turn",
    refusal: same(409, "not_latest_turn"),
    given: async ({ asked, further }) => {
      const turn = await asked();
      await further(turn.chatId);
      return { turn };
    },
    counted: "not_latest",
  },
  {
    name: "6 an older turn while the latest runs",
    refusal: same(409, "not_latest_turn"),
    given: async ({ running }) => {
      const { chatId, older } = await running();
      return { turn: { chatId, requestId: older } };
    },
    counted: "not_latest",
  },
  {
    name: "6 a replaced turn",
    refusal: same(409, "not_latest_turn"),
    given: async ({ ground, asked }) => {
      const turn = await asked();
      await (await mutate(ground, "retry", turn)).rest();
      return { turn };
    },
    counted: "not_latest",
  },
  {
    name: "6 a deleted turn, also the only one of its chat",
    refusal: same(409, "not_latest_turn"),
    given: async ({ ground, asked }) => {
      const turn = await asked();
      await (await mutate(ground, "delete", turn)).rest();
      return { turn };
    },
    counted: "not_latest",
  },
  {
    name: "6 a turn that changed since",
    refusal: same(409, "not_latest_turn"),
    given: async ({ asked }) => ({
      turn: await asked(),
      query: "?if_turn_updated_at=2026-03-01T10:15:31.204518Z",
    }),
    counted: "not_latest",
  },
];

const useUp = async ({ ground }: World): Promise<void> => {
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
    given: async ({ ground, asked }) => {
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
    given: async ({ asked }) => ({ turn: await asked(), door: { policyAway: true } }),
  },
  {
    name: "10 web search switched off",
    refusal: same(400, "web_search_disabled"),
    given: async ({ asked }) => ({ turn: await asked({ webSearch: true }), door: { webOff: true } }),
  },
  {
    name: "11 credits",
    refusal: same(429, "quota_exceeded", { quota_scope: "tokens" }),
    given: async ({ asked }) => ({ turn: await asked(), door: { poor: true } }),
  },
  {
    name: "12 web searches of the day",
    refusal: same(429, "quota_exceeded", { quota_scope: "web_search" }),
    given: async (world) => {
      const { ground, asked } = world;
      await ground.db.query("update quota_usage set web_search_calls = 0, image_inputs = 0");
      const turn = await asked({ caller: callers.amy, webSearch: true });
      await useUp(world);
      return { turn, caller: callers.amy };
    },
  },
  {
    name: "14 images of the day",
    refusal: same(429, "quota_exceeded", { quota_scope: "image_inputs" }),
    given: async (world) => {
      const { ground, asked } = world;
      await ground.db.query("update quota_usage set web_search_calls = 0, image_inputs = 0");
      const turn = await asked({ caller: callers.amy, images: 1 });
      await useUp(world);
      return { turn, caller: callers.amy };
    },
  },
  {
    name: "15 input too long",
    refusal: same(422, "input_too_long"),
    given: async ({ asked }) => ({
      turn: await asked({ model: "m100" }),
      body: { content: "x".repeat(600) },
    }),
    only: ["edit"],
  },
  {
    name: "16 images switched off",
    refusal: same(400, "images_disabled"),
    given: async ({ asked }) => ({ turn: await asked({ images: 1 }), door: { imagesOff: true } }),
  },
  {
    name: "17 images a model's provider cannot read",
    refusal: same(415, "unsupported_media"),
    given: async ({ ground, asked }) => {
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
    given: async ({ ground, asked }) => {
      const turn = await asked({ images: 1 });
      await ground.db.query("update attachments set status = 'uploaded' where chat_id = $1", [turn.chatId]);
      return { turn };
    },
  },
  {
    name: "18 an attachment of another uploader",
    refusal: same(400, "invalid_attachment"),
    given: async ({ ground, asked }) => {
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
    given: async ({ ground, asked }) => {
      const turn = await asked();
      // As if the model of the catalog had shrunk; a chat never changes its model by itself.
      await ground.db.query(`
        set session_replication_role = replica;
        update chats set model = 'm001' where id = '${turn.chatId}';
        reset session_replication_role`);
      return { turn };
    },
  },
];

/** Every refusal with every operation it is one of. */
export const cases = [
  ...preconditions,
  ...asOfASend.map((one): Case => ({ only: streaming, counted: "error", ...one })),
].flatMap((one) => (one.only ?? ops).map((op) => ({ ...one, op })));
