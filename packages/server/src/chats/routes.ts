import { z } from "zod";
import type { Authorizer } from "../auth/authorize.ts";
import type { Db } from "../db/pool.ts";
import { inTransaction } from "../db/tx.ts";
import { selectFields } from "../http/odata.ts";
import { noContent, problems } from "../http/openapi.ts";
import { listQuery, pageOf, parseListQuery } from "../http/paging.ts";
import type { ApiServer } from "../http/server.ts";
import { int64, timestampOut, uuid, uuidOut } from "../http/validate.ts";
import { chatNotFound, chatView, normalizeTitle } from "./chat.ts";
import { type CreateDeps, createChat } from "./create.ts";
import { chatList, listChats } from "./list.ts";
import { type RemoveDeps, removeChat } from "./remove.ts";
import { findChat, renameChat } from "./store.ts";

export interface ChatRoutesDeps extends CreateDeps, RemoveDeps {
  readonly db: Db;
  readonly authorizer: Authorizer;
  /** `{prefix}/v1`, for `Location`. */
  readonly apiRoot: string;
}

export const chatSchema = z
  .object({
    id: uuidOut(),
    model: z.string(),
    title: z.string().optional(),
    is_temporary: z.boolean(),
    expires_at: timestampOut().optional(),
    message_count: int64(),
    created_at: timestampOut(),
    updated_at: timestampOut(),
  })
  .meta({ id: "Chat" });

const chatCreate = z
  .object({
    title: z.string().optional(),
    model: z.string().optional(),
    is_temporary: z.boolean().optional(),
  })
  .meta({ id: "ChatCreate" });

const chatUpdate = z.object({ title: z.string() }).meta({ id: "ChatUpdate" });

const chatPath = z.object({ id: uuid() });

/** `/chats` and `/chats/{id}` (api.md §2). */
export const registerChatRoutes = (api: ApiServer, deps: ChatRoutesDeps): void => {
  api.post(
    "/chats",
    {
      schema: {
        operationId: "createChat",
        tags: ["chats"],
        summary: "Create a chat",
        body: chatCreate,
        response: { 201: chatSchema, ...problems("invalid_model", "forbidden", "service_unavailable") },
      },
    },
    async (request, reply) => {
      const { title, model, is_temporary: isTemporary = false } = request.body;
      const chat = await createChat(deps, request.actor, { title, model, isTemporary });
      return reply.code(201).header("location", `${deps.apiRoot}/chats/${chat.id}`).send(chatView(chat));
    },
  );
  api.get(
    "/chats",
    {
      schema: {
        operationId: "listChats",
        tags: ["chats"],
        summary: "List your chats",
        querystring: listQuery(),
        response: {
          200: pageOf(chatSchema),
          ...problems("invalid_filter", "invalid_orderby", "invalid_cursor", "invalid_select", "forbidden"),
        },
      },
    },
    async (request) => {
      const scope = await deps.authorizer.authorize(request.actor, { resourceType: "chat", action: "list" });
      const query = parseListQuery(chatList, request.query);
      const { rows, page_info } = await listChats(deps.db, request.actor, scope, query);
      return { items: rows.map((row) => selectFields(chatView(row), query.select)), page_info };
    },
  );
  registerOneChat(api, deps);
};

const registerOneChat = (api: ApiServer, deps: ChatRoutesDeps): void => {
  const refusals = problems("chat_not_found", "forbidden");
  const authorize = async (
    request: { actor: Parameters<typeof findChat>[1] },
    id: string,
    action: string,
  ) => {
    const scope = await deps.authorizer.authorize(request.actor, {
      resourceType: "chat",
      action,
      resourceId: id,
    });
    if (!scope.admits({ id })) throw chatNotFound();
  };
  api.get(
    "/chats/:id",
    {
      schema: {
        operationId: "getChat",
        tags: ["chats"],
        summary: "Read a chat",
        params: chatPath,
        response: { 200: chatSchema, ...refusals },
      },
    },
    async (request) => {
      const { id } = request.params;
      await authorize(request, id, "read");
      const chat = await findChat(deps.db, request.actor, id);
      if (chat === null) throw chatNotFound();
      return chatView(chat);
    },
  );
  api.patch(
    "/chats/:id",
    {
      schema: {
        operationId: "renameChat",
        tags: ["chats"],
        summary: "Rename a chat",
        params: chatPath,
        body: chatUpdate,
        response: { 200: chatSchema, ...refusals },
      },
    },
    async (request) => {
      const { id } = request.params;
      await authorize(request, id, "update");
      const title = normalizeTitle(request.body.title);
      const chat = await inTransaction(deps.db, (tx) => renameChat(tx, request.actor, id, title));
      if (chat === null) throw chatNotFound();
      return chatView(chat);
    },
  );
  api.delete(
    "/chats/:id",
    {
      schema: {
        operationId: "deleteChat",
        tags: ["chats"],
        summary: "Delete a chat, for good",
        params: chatPath,
        response: { 204: noContent(), ...refusals },
      },
    },
    async (request, reply) => {
      const { id } = request.params;
      await authorize(request, id, "delete");
      await removeChat(deps, request.actor, id);
      return reply.code(204).send();
    },
  );
};
