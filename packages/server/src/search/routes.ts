import { z } from "zod";
import type { Timestamp } from "../db/pool.ts";
import { problems } from "../http/openapi.ts";
import { pageOf } from "../http/paging.ts";
import type { ApiServer } from "../http/server.ts";
import { timestampOut, uuidOut } from "../http/validate.ts";
import { excerptOf, type Range } from "./excerpt.ts";
import type { Hit } from "./find.ts";
import { type FoundWord, maxQueryLength } from "./query.ts";
import { type SearchDeps, searchChats } from "./search.ts";

const hitSchema = z
  .object({
    kind: z.enum(["message", "title"]),
    chat_id: uuidOut(),
    chat_title: z.string().optional(),
    message_id: uuidOut().optional(),
    role: z.enum(["user", "assistant", "system"]).optional(),
    created_at: timestampOut(),
    excerpt: z.string(),
    highlights: z.array(z.object({ start: z.int(), end: z.int() })),
  })
  .meta({ id: "SearchHit" });

const searchQuery = z.object({
  q: z.string().meta({
    maxLength: maxQueryLength,
    description: 'Words, all of which must occur; "a phrase"; or; -excluded; a last word with * at its end.',
  }),
  limit: z.string().optional().meta({ type: "integer", minimum: 1, maximum: 100, default: 20 }),
  cursor: z.string().optional().meta({ description: "From `page_info`; opaque." }),
});

interface HitView {
  kind: "message" | "title";
  chat_id: string;
  chat_title?: string;
  message_id?: string;
  role?: "user" | "assistant" | "system";
  created_at: Timestamp;
  excerpt: string;
  highlights: Range[];
}

const hitView = (hit: Hit, words: readonly FoundWord[]): HitView => {
  const { text, highlights } = excerptOf(hit.content ?? hit.chatTitle ?? "", words);
  return {
    kind: hit.kind,
    chat_id: hit.chatId,
    ...(hit.chatTitle === null ? {} : { chat_title: hit.chatTitle }),
    ...(hit.role === null ? {} : { message_id: hit.id, role: hit.role }),
    created_at: hit.created_at,
    excerpt: text,
    highlights: [...highlights],
  };
};

/** `GET /search` (docs/search-and-export.md). */
export const registerSearchRoutes = (api: ApiServer, deps: SearchDeps): void => {
  api.get(
    "/search",
    {
      schema: {
        operationId: "searchChats",
        tags: ["search"],
        summary: "Search your chats",
        querystring: searchQuery,
        response: {
          200: pageOf(hitSchema),
          ...problems("forbidden", "invalid_filter", "invalid_cursor"),
        },
      },
    },
    async (request) => {
      const { rows, words, page_info } = await searchChats(deps, request.actor, request.query);
      return { items: rows.map((hit) => hitView(hit, words)), page_info };
    },
  );
};
