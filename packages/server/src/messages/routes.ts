import { z } from "zod";
import type { Authorizer } from "../auth/authorize.ts";
import { enterChat } from "../chats/open.ts";
import type { Db } from "../db/pool.ts";
import { selectFields } from "../http/odata.ts";
import { problems } from "../http/openapi.ts";
import { listQuery, pageOf, parseListQuery } from "../http/paging.ts";
import type { ApiServer } from "../http/server.ts";
import { int64, timestampOut, uuid, uuidOut } from "../http/validate.ts";
import { listMessages, messageList } from "./list.ts";

export interface MessageRoutesDeps {
  readonly db: Db;
  readonly authorizer: Authorizer;
}

const thumbnail = z.object({
  content_type: z.literal("image/webp"),
  width: z.int(),
  height: z.int(),
  data_base64: z.string(),
});

const attachmentSummary = z
  .object({
    attachment_id: uuidOut(),
    kind: z.enum(["document", "image"]),
    filename: z.string(),
    status: z.enum(["pending", "uploaded", "ready", "failed"]),
    img_thumbnail: thumbnail.optional(),
  })
  .meta({ id: "AttachmentSummary" });

const messageSchema = z
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

/** `GET /chats/{id}/messages` (api.md §2, turns.md §17). */
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
};
