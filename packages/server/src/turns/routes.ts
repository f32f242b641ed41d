import type { FastifyReply, FastifyRequest } from "fastify";
import { z } from "zod";
import { enterChat } from "../chats/open.ts";
import { AppError } from "../errors.ts";
import { problems } from "../http/openapi.ts";
import type { ApiServer } from "../http/server.ts";
import { openSse } from "../http/sse.ts";
import { timestampOut, uuid, uuidOut } from "../http/validate.ts";
import { uuidV4 } from "../lib/id.ts";
import { type CancelDeps, cancelTurn } from "./cancel.ts";
import { answerRefusals, turnStream } from "./event-schemas.ts";
import { encodeEvent } from "./grammar.ts";
import { type Preflight, type PreflightDeps, preflight, type SendRequest, usedBefore } from "./preflight.ts";
import { replayEvents } from "./replay.ts";
import { begin, type ServeDeps, serveTurn } from "./serve.ts";
import { findTurnStatus, type TurnStatusRow } from "./store.ts";
import { turnStatusView } from "./turn.ts";

export interface TurnRoutesDeps extends PreflightDeps, ServeDeps, CancelDeps {
  readonly liveAttachments: Parameters<typeof replayEvents>[0]["liveAttachments"];
}

// Twice what a chat holds by default (attachments.md §3); each one is looked up and locked.
const maxAttachmentIds = 100;

const sendMessage = z
  .object({
    content: z.string(),
    request_id: uuid().optional(),
    attachment_ids: z.array(uuid()).max(maxAttachmentIds).optional(),
    web_search: z.object({ enabled: z.boolean() }).optional(),
    on_disconnect: z.enum(["cancel", "continue"]).optional(),
  })
  .meta({ id: "SendMessage" });

const turnStatus = z
  .object({
    request_id: uuidOut(),
    state: z.enum(["running", "done", "error", "cancelled"]),
    error_code: z.string().optional(),
    assistant_message_id: uuidOut().optional(),
    updated_at: timestampOut(),
  })
  .meta({ id: "TurnStatus" });

export const turnPath = z.object({ id: uuid(), request_id: uuid() });

/** Sending, turn status and cancel (api.md §2, turns.md §3). */
export const registerTurnRoutes = (api: ApiServer, deps: TurnRoutesDeps): void => {
  registerSend(api, deps);
  api.get(
    "/chats/:id/turns/:request_id",
    {
      schema: {
        operationId: "getTurn",
        tags: ["turns"],
        summary: "How a turn stands",
        params: turnPath,
        response: { 200: turnStatus, ...problems("chat_not_found", "turn_not_found", "forbidden") },
      },
    },
    async (request) => turnStatusView(await findTurn(deps, request, "read_turn")),
  );
  api.post(
    "/chats/:id/turns/:request_id/cancel",
    {
      schema: {
        operationId: "cancelTurn",
        tags: ["turns"],
        summary: "Stop a running answer",
        params: turnPath,
        response: {
          200: turnStatus,
          202: turnStatus,
          ...problems("chat_not_found", "turn_not_found", "forbidden"),
        },
      },
    },
    async (request, reply) => {
      const turn = await findTurn(deps, request, "cancel_turn");
      const ended = await cancelTurn(deps, request.actor.tenantId, request.params.id, turn);
      return reply.code(ended.state === "running" ? 202 : 200).send(turnStatusView(ended));
    },
  );
};

const findTurn = async (
  deps: TurnRoutesDeps,
  request: Pick<FastifyRequest, "actor"> & { params: z.output<typeof turnPath> },
  action: string,
): Promise<TurnStatusRow> => {
  const { id: chatId, request_id: requestId } = request.params;
  await enterChat(deps, request.actor, chatId, action, {
    notFound: "chat_not_found",
    forbidden: "forbidden",
  });
  const turn = await findTurnStatus(deps.db, request.actor.tenantId, chatId, requestId);
  if (turn === null) throw new AppError("turn_not_found", { detail: "This chat has no such turn." });
  return turn;
};

const registerSend = (api: ApiServer, deps: TurnRoutesDeps): void => {
  api.post(
    "/chats/:id/messages::stream",
    {
      config: { stream: true, refuseWhileDraining: true },
      schema: {
        operationId: "sendMessage",
        tags: ["turns"],
        summary: "Send a message and stream the answer",
        params: z.object({ id: uuid() }),
        body: sendMessage,
        response: {
          200: turnStream,
          ...problems(
            "chat_not_found",
            "forbidden",
            "idempotency_mismatch",
            "request_id_conflict",
            ...answerRefusals,
            "service_unavailable",
            "shutting_down",
          ),
        },
      },
    },
    async (request, reply) => {
      const { body } = request;
      const send: SendRequest = {
        chatId: request.params.id,
        requestId: body.request_id ?? uuidV4(),
        content: body.content,
        attachmentIds: body.attachment_ids ?? [],
        webSearch: body.web_search?.enabled ?? false,
        onDisconnect: body.on_disconnect ?? "cancel",
        traceId: request.traceId,
        traceparent: request.traceparent,
        receivedAt: request.receivedAt,
      };
      await answer(deps, request, reply, send);
    },
  );
};

/** Refuses, replays, or runs the turn to its end; resolves when the response is done with. */
const answer = async (
  deps: TurnRoutesDeps,
  request: FastifyRequest,
  reply: FastifyReply,
  send: SendRequest,
): Promise<void> => {
  const begun = await begin(deps, () => preflight(deps, request.actor, send));
  if (begun.kind === "replay") return replay(deps, request, reply, send, begun);
  await serveTurn(deps, reply, begun);
};

const replay = async (
  deps: TurnRoutesDeps,
  request: FastifyRequest,
  reply: FastifyReply,
  send: SendRequest,
  found: Omit<Extract<Preflight, { kind: "replay" }>, "kind">,
): Promise<void> => {
  const { tenantId } = request.actor;
  const events = await replayEvents(deps, tenantId, send.chatId, found.turn, found.selectedModel);
  if (events === null) throw usedBefore();
  deps.metrics.count("stream_replay", { reason: "idempotent_completed" });
  const client = openSse(reply, { silenceMs: deps.silenceMs, stalledMs: deps.stalledMs });
  client.write(events.map((event) => encodeEvent(event)).join(""));
  client.end();
};
