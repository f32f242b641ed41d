import type { Queryable, Statement, Timestamp } from "../db/pool.ts";
import type { Tx } from "../db/tx.ts";
import { ofLiveChat } from "./live-chat.ts";
import type { AttachmentKey } from "./upload-store.ts";

/** The SQL of document summaries (attachments.md §15). */

/** A document that wants a summary: ready, live, for file search, without one. */
export interface UnsummarizedDocument {
  readonly providerFileId: string;
  readonly filename: string;
  /** Label of the storage it lies in. */
  readonly backend: string;
}

const wantsOne = `a.status = 'ready'
      and a.for_file_search
      and a.doc_summary is null
      and a.deleted_at is null
      and ${ofLiveChat("a")}`;

const select: Statement = {
  name: "attachment_unsummarized",
  text: `
    select a.provider_file_id as "providerFileId", a.filename, a.storage_backend as backend
    from attachments a
    where a.id = $1
      and a.tenant_id = $2
      and a.chat_id = $3
      and ${wantsOne}`,
};

/** Null when there is nothing to do: deleted, of a deleted chat, no such document, summarized already. */
export const findUnsummarized = async (
  db: Queryable,
  { id, tenantId, chatId }: AttachmentKey,
): Promise<UnsummarizedDocument | null> =>
  (await db.query<UnsummarizedDocument>(select, [id, tenantId, chatId])).rows[0] ?? null;

const update: Statement = {
  name: "attachment_set_summary",
  text: `
    update attachments a
    set
      doc_summary = $4,
      summary_model = $5,
      summary_updated_at = now(),
      updated_at = now()
    where a.id = $1
      and a.tenant_id = $2
      and a.chat_id = $3
      and ${wantsOne}
    returning a.summary_updated_at as at`,
};

/** When it was stored; null when another summary was first or the document is gone. */
export const setDocumentSummary = async (
  tx: Tx,
  { id, tenantId, chatId }: AttachmentKey,
  summary: { readonly text: string; readonly model: string },
): Promise<Timestamp | null> =>
  (await tx.query<{ at: Timestamp }>(update, [id, tenantId, chatId, summary.text, summary.model])).rows[0]
    ?.at ?? null;
