import type { TenantId } from "../auth/actor.ts";
import type { Queryable, Statement } from "../db/pool.ts";

/** A document of a chat as a turn sees it: ready and live, with what its provider calls it. */
export interface ChatDocument {
  readonly id: string;
  readonly filename: string;
  readonly providerFileId: string;
  /** Label of the storage it lies in. */
  readonly backend: string;
  readonly forFileSearch: boolean;
  readonly forCodeInterpreter: boolean;
  readonly summary: string | null;
}

/** What a chat has uploaded for its model to read (context.md §1). */
export interface ChatFiles {
  /** Newest first. */
  readonly documents: readonly ChatDocument[];
  /** Null before the first document is indexed, and while its store is being made. */
  readonly store: { readonly vectorStoreId: string; readonly backend: string } | null;
  /** The store may still hold files that were deleted, or never became ready: their cleanup is not done. */
  readonly hasLeftovers: boolean;
}

const noFiles: ChatFiles = { documents: [], store: null, hasLeftovers: false };

// Index attachments_live_idx; a chat without files costs one look into it. Upload bounds the documents of a
// chat (attachments.md §7).
const select: Statement = {
  name: "attachments_chat_files",
  text: `
    select
      a.id, a.filename, a.provider_file_id as "providerFileId", a.storage_backend as backend,
      a.for_file_search as "forFileSearch", a.for_code_interpreter as "forCodeInterpreter",
      a.doc_summary as summary, s.vector_store_id as "vectorStoreId", s.provider as "storeBackend",
      exists (
        select 1
        from attachments left_over
        where left_over.tenant_id = $1
          and left_over.chat_id = $2
          and left_over.for_file_search
          and left_over.cleanup_status in ('pending', 'failed')
      ) as "hasLeftovers"
    from attachments a
    left join chat_vector_stores s on s.tenant_id = a.tenant_id and s.chat_id = a.chat_id
    where a.tenant_id = $1
      and a.chat_id = $2
      and a.deleted_at is null
      and a.status = 'ready'
      and a.attachment_kind = 'document'
    order by a.created_at desc, a.id desc`,
};

interface Row extends ChatDocument {
  readonly vectorStoreId: string | null;
  readonly storeBackend: string | null;
  readonly hasLeftovers: boolean;
}

/** The ready documents of an already loaded chat and the store they are indexed in: one statement. */
export const findChatFiles = async (
  db: Queryable,
  tenantId: TenantId,
  chatId: string,
): Promise<ChatFiles> => {
  const { rows } = await db.query<Row>(select, [tenantId, chatId]);
  const [first] = rows;
  if (first === undefined) return noFiles;
  const { vectorStoreId, storeBackend: backend, hasLeftovers } = first;
  return {
    documents: rows,
    store: vectorStoreId === null || backend === null ? null : { vectorStoreId, backend },
    hasLeftovers,
  };
};
