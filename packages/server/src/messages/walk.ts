import { findAttachmentNamesOfMessages, findLiveAttachmentIds } from "../attachments/store.ts";
import type { TenantId, UserId } from "../auth/actor.ts";
import type { Citation } from "../context/citations.ts";
import type { Position } from "../context/position.ts";
import type { Queryable, Statement } from "../db/pool.ts";
import { type Message, type MessageView, messageView } from "./message.ts";
import { findReactions } from "./reaction-store.ts";

/** A message as listed, with what its answer cites. */
export interface WholeMessage {
  readonly view: MessageView;
  readonly citations: readonly Citation[];
}

const selectNewest: Statement = {
  name: "message_newest_listed",
  text: `
    select created_at as "createdAt", id
    from messages
    where chat_id = $1
      and tenant_id = $2
      and deleted_at is null
      and request_id is not null
    order by created_at desc, id desc
    limit 1`,
};

interface WalkedMessage extends Message {
  readonly citations: readonly Citation[] | null;
}

// Index (chat_id, created_at, id) where deleted_at is null: cost is the page, not the chat.
const selectPage: Statement = {
  name: "message_page_of_walk",
  text: `
    select
      id, request_id as "requestId", role, content, model, input_tokens as "inputTokens",
      output_tokens as "outputTokens", created_at as "createdAt", citations
    from messages
    where chat_id = $1
      and tenant_id = $2
      and deleted_at is null
      and request_id is not null
      and (created_at, id) > ($3::timestamptz, $4::uuid)
      and (created_at, id) <= ($5::timestamptz, $6::uuid)
    order by created_at, id
    limit $7`,
};

const pageSize = 50;
const start: Position = { createdAt: "-infinity", id: "00000000-0000-0000-0000-000000000000" };

/**
 * All listed messages (turns.md §17) of an already loaded chat, oldest first, a page at a time: what came
 * after the walk began is not among them, nor what was deleted before the walk got there. No transaction
 * stays open and no page is read before the one before it was taken. Attachments are without thumbnails.
 */
export async function* walkMessages(
  db: Queryable,
  scope: { readonly tenantId: TenantId; readonly userId: UserId; readonly chatId: string },
): AsyncGenerator<WholeMessage[], void> {
  const { tenantId, chatId } = scope;
  const last = (await db.query<Position>(selectNewest, [chatId, tenantId])).rows[0];
  if (last === undefined) return;
  for (let after = start; ; ) {
    const bounds = [after.createdAt, after.id, last.createdAt, last.id, pageSize];
    const { rows } = await db.query<WalkedMessage>(selectPage, [chatId, tenantId, ...bounds]);
    if (rows.length > 0) yield await complete(db, scope, rows);
    const edge = rows.at(-1);
    if (edge === undefined || rows.length < pageSize) return;
    after = edge;
  }
}

const complete = async (
  db: Queryable,
  scope: { readonly tenantId: TenantId; readonly userId: UserId; readonly chatId: string },
  rows: readonly WalkedMessage[],
): Promise<WholeMessage[]> => {
  const { tenantId, chatId } = scope;
  const ids = rows.map(({ id }) => id);
  const cited = rows.flatMap(({ citations }) => citations ?? []).flatMap((one) => one.attachment_id ?? []);
  const [attachments, reactions, live] = await Promise.all([
    findAttachmentNamesOfMessages(db, tenantId, chatId, ids),
    findReactions(db, scope, ids),
    cited.length === 0 ? new Set<string>() : findLiveAttachmentIds(db, tenantId, chatId, cited),
  ]);
  const attached = Map.groupBy(attachments, ({ messageId }) => messageId);
  const bare = { thumbnail: null, thumbnailWidth: null, thumbnailHeight: null };
  return rows.map((row) => ({
    view: messageView(
      row,
      (attached.get(row.id) ?? []).map((one) => ({ ...one, ...bare })),
      reactions.get(row.id) ?? null,
    ),
    // A deleted file is cited nowhere any more, as in a replay.
    citations: (row.citations ?? []).filter(
      (one) => one.attachment_id === undefined || live.has(one.attachment_id),
    ),
  }));
};
