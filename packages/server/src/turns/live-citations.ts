import type { TenantId } from "../auth/actor.ts";

/** Tells which of these attachments of a chat still exist. */
export type LiveAttachments = (
  tenantId: TenantId,
  chatId: string,
  ids: readonly string[],
) => Promise<Set<string>>;

/** The citations without those of attachments deleted since (context.md §12.9). */
export const liveCitations = async <Item extends { readonly attachment_id?: string }>(
  liveAttachments: LiveAttachments,
  chat: { readonly tenantId: TenantId; readonly chatId: string },
  cited: readonly Item[],
): Promise<readonly Item[]> => {
  const ids = cited.flatMap((item) => (item.attachment_id === undefined ? [] : [item.attachment_id]));
  if (ids.length === 0) return cited;
  const live = await liveAttachments(chat.tenantId, chat.chatId, ids);
  return cited.filter((item) => item.attachment_id === undefined || live.has(item.attachment_id));
};
