import type { TenantId } from "../auth/actor.ts";
import type { Queryable, Statement } from "../db/pool.ts";
import type { Position } from "./chunk.ts";

/** The SQL of beginnings: the first chunks of documents, which must be ready and live. */

/** A chunk from the beginning of a document. */
export interface FirstChunk {
  readonly attachmentId: string;
  readonly filename: string;
  readonly no: number;
  readonly content: string;
  /** UTF-16 units at its beginning that the chunk before has as well. */
  readonly overlap: number;
  readonly position: Position;
}

// Index local_files_chat_idx, then the primary key of the chunks.
const select: Statement = {
  name: "local_chunks_first",
  text: `
    select
      a.id as "attachmentId", a.filename, c.no, c.content, c.overlap,
      c.place_kind as kind, c.place_from as "from", c.place_to as "to", c.place_name as name
    from local_files f
    join attachments a on a.chat_id = f.chat_id and a.id = f.attachment_id and a.tenant_id = f.tenant_id
    join local_chunks c on c.file_id = f.id and c.tenant_id = f.tenant_id
    where f.tenant_id = $1
      and f.chat_id = $2
      and ($3::uuid is null or f.attachment_id = $3)
      and f.index_status = 'completed'
      and a.tenant_id = $1
      and a.status = 'ready'
      and a.deleted_at is null
      and a.provider_file_id = f.id::text
      and c.no < $4
    order by c.no, f.created_at desc, f.id
    limit $5`,
};

type Row = Omit<FirstChunk, "position"> & {
  readonly kind: Position["kind"];
  readonly from: number;
  readonly to: number;
  readonly name: string | null;
};

/** The first chunks of one document of a chat, or of all: the first of each, then the second of each, … */
export const findFirstChunks = async (
  db: Queryable,
  tenantId: TenantId,
  chatId: string,
  of: { readonly attachmentId: string | null; readonly perDocument: number; readonly limit: number },
): Promise<FirstChunk[]> => {
  const values = [tenantId, chatId, of.attachmentId, of.perDocument, of.limit];
  const { rows } = await db.query<Row>(select, values);
  return rows.map(({ kind, from, to, name, ...rest }) => ({
    ...rest,
    position: { kind, from, to, ...(name === null ? {} : { name }) },
  }));
};
