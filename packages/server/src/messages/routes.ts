import { z } from "zod";
import { thumbnailSchema } from "../attachments/attachment.ts";
import type { Authorizer } from "../auth/authorize.ts";
import { enterChat } from "../chats/open.ts";
import type { Db } from "../db/pool.ts";
import { selectFields } from "../http/odata.ts";
import { noContent, problems } from "../http/openapi.ts";
import { listQuery, pageOf, parseListQuery } from "../http/paging.ts";
import type { ApiServer } from "../http/server.ts";
import { int64, timestampOut, uuid, uuidOut } from "../http/validate.ts";
import { listMessages, messageList } from "./list.ts";
import { parseReaction, removeReaction, setReaction } from "./react.ts";

export interface MessageRoutesDeps {
  readonly db: Db;
  readonly authorizer: Authorizer;
}

const attachmentSummary = z
  .object({
    attachment_id: uuidOut(),
    kind: z.enum(["document", "image"]),
    filename: z.string(),
    status: z.enum(["pending", "uploaded", "ready", "failed"]),
    img_thumbnail: thumbnailSchema.optional(),
  })
  .meta({ id: "AttachmentSummary" });

export const messageSchema = z
  .object({
    id: uuidOut(),
    request_id: uuidOut(),
    role: z.enum(["user", "assistant", "system"]),
    content: z.string(),
    attachments: z.array(attachmentSummary),
    my_reaction: z.enum(["like", "dislike"]).nullable(),
    model: z.string().optional(),
    input_tokens: int64().optional(),
    output_tokens: int64().optional(),
    created_at: timestampOut(),
  })
  .meta({ id: "Message" });

const reactionSet = z
  // Other texts are refused by the use case: they are a 400, while a missing field is a 422.
  .object({ reaction: z.string().meta({ enum: ["like", "dislike"] }) })
  .meta({ id: "ReactionSet" });

const reactionSchema = z
  .object({ message_id: uuidOut(), reaction: z.enum(["like", "dislike"]), created_at: timestampOut() })
  .meta({ id: "Reaction" });

/** The messages of a chat and the reactions to them (api.md §2, turns.md §17–18). */
export const registerMessageRoutes = (api: ApiServer, deps: MessageRoutesDeps): void => {
  api.get(
    "/chats/:id/messages",
    {
      schema: {
        operationId: "listMessages",
        tags: ["messages"],
        summary: "List the messages of a chat",
        params: z.object({ id: uuid() }),
        querystring: listQuery(),
        response: {
          200: pageOf(messageSchema),
          ...problems(
            "chat_not_found",
            "forbidden",
            "invalid_filter",
            "invalid_orderby",
            "invalid_cursor",
            "invalid_select",
          ),
        },
      },
    },
    async (request) => {
      const { tenantId, userId } = request.actor;
      const chatId = request.params.id;
      const query = parseListQuery(messageList, request.query);
      await enterChat(deps, request.actor, chatId, "list_messages");
      const page = await listMessages(deps.db, { tenantId, userId, chatId }, query);
      return { ...page, items: page.items.map((item) => selectFields(item, query.select)) };
    },
  );
  registerReactions(api, deps);
};

const reactionPath = z.object({ id: uuid(), msg_id: uuid() });

const registerReactions = (api: ApiServer, deps: MessageRoutesDeps): void => {
  const { db } = deps;
  api.put(
    "/chats/:id/messages/:msg_id/reaction",
    {
      schema: {
        operationId: "setReaction",
        tags: ["messages"],
        summary: "Like or dislike an answer",
        params: reactionPath,
        body: reactionSet,
        response: {
          200: reactionSchema,
          ...problems("chat_not_found", "message_not_found", "forbidden", "invalid_reaction_target"),
        },
      },
    },
    async ({ actor, body, params: { id: chatId, msg_id: id } }) => {
      const reaction = parseReaction(body.reaction);
      await enterChat(deps, actor, chatId, "set_reaction");
      return setReaction(db, actor, { chatId, id }, reaction);
    },
  );
  api.delete(
    "/chats/:id/messages/:msg_id/reaction",
    {
      schema: {
        operationId: "deleteReaction",
        tags: ["messages"],
        summary: "Take a reaction back",
        params: reactionPath,
        response: { 204: noContent(), ...problems("chat_not_found", "message_not_found", "forbidden") },
      },
    },
    async ({ actor, params: { id: chatId, msg_id: id } }, reply) => {
      await enterChat(deps, actor, chatId, "delete_reaction");
      await removeReaction(db, actor, { chatId, id });
      return reply.code(204).send();
    },
  );
};
