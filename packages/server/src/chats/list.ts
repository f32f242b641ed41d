import type { Actor } from "../auth/actor.ts";
import { type AccessScope, chatScopePredicate } from "../auth/scope.ts";
import type { Queryable } from "../db/pool.ts";
import type { ListTable } from "../http/odata.ts";
import { compileList } from "../http/odata-sql.ts";
import { type ListRequest, type PageInfo, toPage } from "../http/paging.ts";
import type { Chat } from "./chat.ts";
import { chatColumns } from "./store.ts";

/** What `GET /chats` offers (api.md §4). */
export const chatList: ListTable = {
  name: "chats",
  fields: {
    updated_at: { type: "datetime", sql: "c.updated_at" },
    id: { type: "uuid", sql: "c.id" },
    // A chat without title sorts as the empty title, but compares as null.
    title: { type: "string", sql: "c.title", orderSql: "coalesce(c.title, '')" },
  },
  defaultOrder: [{ field: "updated_at", direction: "desc" }],
  selectable: [
    "id",
    "model",
    "title",
    "is_temporary",
    "expires_at",
    "message_count",
    "created_at",
    "updated_at",
  ],
};

const keyOf = (chat: Chat, field: string): string => {
  if (field === "updated_at") return chat.updatedAt;
  return field === "title" ? (chat.title ?? "") : chat.id;
};

/** One page of the caller's live chats. */
export const listChats = async (
  db: Queryable,
  actor: Actor,
  scope: AccessScope,
  request: ListRequest,
): Promise<{ rows: readonly Chat[]; page_info: PageInfo }> => {
  const allowed = chatScopePredicate(scope, "c", 3);
  const list = compileList(chatList, request, 3 + allowed.values.length);
  const text = `
    select ${chatColumns}
    from chats c
    where c.tenant_id = $1
      and c.user_id = $2
      and c.deleted_at is null
      and ${allowed.sql}
      and ${list.where}
    order by ${list.orderBy}
    limit ${list.limit}`;
  const { rows } = await db.query<Chat>(
    list.name === null || !isOwnScope(scope) ? text : { name: list.name, text },
    [actor.tenantId, actor.userId, ...allowed.values, ...list.values],
  );
  return toPage(chatList, request, rows, keyOf);
};

/** Whether the scope is the one nearly everybody has; a policy point can think of any number of others. */
const isOwnScope = ({ rules }: AccessScope): boolean =>
  rules !== "unconstrained" &&
  rules.length === 1 &&
  rules[0]?.map(({ property }) => property).join() === "owner_id,owner_tenant_id";
