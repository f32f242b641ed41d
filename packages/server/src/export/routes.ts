import { Readable } from "node:stream";
import { z } from "zod";
import type { Authorizer } from "../auth/authorize.ts";
import { chatNotFound } from "../chats/chat.ts";
import { chatSchema } from "../chats/routes.ts";
import { findChat } from "../chats/store.ts";
import { citationSchema } from "../context/citation-schema.ts";
import type { Db } from "../db/pool.ts";
import { download, problems } from "../http/openapi.ts";
import type { ApiServer } from "../http/server.ts";
import { timestampOut, uuid } from "../http/validate.ts";
import { messageSchema } from "../messages/routes.ts";
import { type WholeMessage, walkMessages } from "../messages/walk.ts";
import { dispositionOf } from "./filename.ts";
import { renderExport } from "./render.ts";

export interface ExportRoutesDeps {
  readonly db: Db;
  readonly authorizer: Authorizer;
  /** A client that takes nothing for this long is cut off. */
  readonly stalledMs: number;
}

const exportedMessage = messageSchema
  .extend({ citations: z.array(citationSchema).optional() })
  .meta({ id: "ExportedMessage" });

const exportedChat = z
  .object({ chat: chatSchema, exported_at: timestampOut(), messages: z.array(exportedMessage) })
  .meta({ id: "ExportedChat" });

const files = {
  markdown: { extension: "md", type: "text/markdown; charset=utf-8" },
  json: { extension: "json", type: "application/json; charset=utf-8" },
} as const;

/** The pages with the first one read already: what fails in it is still a refusal. */
const withFirstRead = async (pages: AsyncGenerator<WholeMessage[], void>) => {
  const first = await pages.next();
  return (async function* () {
    if (first.done === true) return;
    yield first.value;
    yield* pages;
  })();
};

/** `GET /chats/{id}/export` (docs/search-and-export.md). */
export const registerExportRoutes = (api: ApiServer, deps: ExportRoutesDeps): void => {
  api.get(
    "/chats/:id/export",
    {
      schema: {
        operationId: "exportChat",
        tags: ["chats"],
        summary: "Download a chat as Markdown or JSON",
        params: z.object({ id: uuid() }),
        querystring: z.object({
          format: z.enum(["markdown", "json"]).optional().meta({ default: "markdown" }),
        }),
        response: {
          ...download("The chat with all its messages, oldest first.", {
            "text/markdown": z.string(),
            "application/json": exportedChat,
          }),
          ...problems("chat_not_found", "forbidden"),
        },
      },
    },
    async (request, reply) => {
      const { actor } = request;
      const { id } = request.params;
      const { format = "markdown" } = request.query;
      const scope = await deps.authorizer.authorize(actor, {
        resourceType: "chat",
        action: "list_messages",
        resourceId: id,
      });
      const chat = scope.admits({ id }) ? await findChat(deps.db, actor, id) : null;
      if (chat === null) throw chatNotFound();
      const { tenantId, userId } = actor;
      const pages = await withFirstRead(walkMessages(deps.db, { tenantId, userId, chatId: id }));
      const { extension, type } = files[format];
      // Slow readers hold memory of one page and a place of this route, but not for ever.
      reply.raw.setTimeout(deps.stalledMs, () => reply.raw.destroy());
      reply.headers({
        "content-type": type,
        "content-disposition": dispositionOf(chat.title, id, extension),
        "x-content-type-options": "nosniff",
      });
      const body = renderExport(format, chat, new Date().toISOString(), pages);
      return reply.send(Readable.from(body, { objectMode: false }));
    },
  );
};
