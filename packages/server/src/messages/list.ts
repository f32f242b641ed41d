import { findAttachmentsOfMessages } from "../attachments/store.ts";
import type { TenantId, UserId } from "../auth/actor.ts";
import type { Queryable } from "../db/pool.ts";
import type { ListTable } from "../http/odata.ts";
import { compileList } from "../http/odata-sql.ts";
import { type ListRequest, type PageInfo, toPage } from "../http/paging.ts";
import { type Message, type MessageView, messageView } from "./message.ts";
import { findReactions } from "./reaction-store.ts";

/** What `GET /chats/{id}/messages` offers (api.md §4, turns.md §17). */
export const messageList: ListTable = {
  name: "messages",
  fields: {
    created_at: { type: "datetime", sql: "m.created_at" },
    id: { type: "uuid", sql: "m.id" },
    role: { type: "string", sql: "m.role" },
  },
  defaultOrder: [{ field: "created_at", direction: "asc" }],
  selectable: [
    "id",
    "request_id",
    "role",
    "content",
    "attachments",
    "my_reaction",
    "model",
    "input_tokens",
    "output_tokens",
    "created_at",
  ],
};

const keyOf = (message: Message, field: string): string => {
  if (field === "created_at") return message.createdAt;
  return field === "role" ? message.role : message.id;
};

/**
 * One page of an already loaded chat's messages, with attachments and the caller's reactions: three
 * statements per page, whatever its size.
 */
export const listMessages = async (
  db: Queryable,
  scope: { readonly tenantId: TenantId; readonly userId: UserId; readonly chatId: string },
  request: ListRequest,
): Promise<{ items: MessageView[]; page_info: PageInfo }> => {
  const list = compileList(messageList, request, 3);
  const text = `
    select
      m.id, m.request_id as "requestId", m.role, m.content, m.model,
      m.input_tokens as "inputTokens", m.output_tokens as "outputTokens", m.created_at as "createdAt"
    from messages m
    where m.chat_id = $1
      and m.tenant_id = $2
      and m.deleted_at is null
      and m.request_id is not null
      and ${list.where}
    order by ${list.orderBy}
    limit ${list.limit}`;
  const found = await db.query<Message>(list.name === null ? text : { name: list.name, text }, [
    scope.chatId,
    scope.tenantId,
    ...list.values,
  ]);
  const { rows, page_info } = toPage(messageList, request, found.rows, keyOf);
  const ids = rows.map((row) => row.id);
  const [attachments, reactions] = await Promise.all([
    findAttachmentsOfMessages(db, scope.tenantId, scope.chatId, ids),
    findReactions(db, scope, ids),
  ]);
  const attached = Map.groupBy(attachments, (row) => row.messageId);
  return {
    items: rows.map((row) => messageView(row, attached.get(row.id) ?? [], reactions.get(row.id) ?? null)),
    page_info,
  };
};
