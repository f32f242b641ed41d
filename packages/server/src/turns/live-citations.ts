import type { TenantId } from "../auth/actor.ts";

/** Which of these attachments of a chat still exist. */
export type LiveAttachments = (
  tenantId: TenantId,
  chatId: string,
  ids: readonly string[],
) => Promise<ReadonlySet<string>>;

/** Stored citations as they may be told now: those of attachments deleted since are left out (turns.md §6). */
export const liveCitations = async <T extends { readonly attachment_id?: string }>(
  liveAttachments: LiveAttachments,
  { tenantId, chatId }: { readonly tenantId: TenantId; readonly chatId: string },
  cited: readonly T[],
): Promise<readonly T[]> => {
  const ids = [...new Set(cited.flatMap((item) => item.attachment_id ?? []))];
  if (ids.length === 0) return cited;
  const live = await liveAttachments(tenantId, chatId, ids);
  return cited.filter((item) => item.attachment_id === undefined || live.has(item.attachment_id));
};
