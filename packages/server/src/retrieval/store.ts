import type { TenantId } from "../auth/actor.ts";
import type { Queryable, Statement, Timestamp } from "../db/pool.ts";
import type { Tx } from "../db/tx.ts";

/** The SQL of stored files and stores; that of their chunks is in `chunk-store.ts`. */

export interface LocalFile {
  readonly id: string;
  readonly tenantId: TenantId;
  readonly chatId: string;
  readonly attachmentId: string;
  readonly providerId: string;
  readonly name: string;
  readonly contentType: string;
}

const insertFileStatement: Statement = {
  name: "local_files_insert",
  text: `
    insert into local_files (id, tenant_id, chat_id, attachment_id, provider_id, name, content_type)
    select $1, $2, $3, a.id, $5, $6, $7
    from attachments a
    where a.id = $4
      and a.chat_id = $3
      and a.tenant_id = $2`,
};

/** Begins a file; false when there is no such attachment. */
export const insertFile = async (tx: Tx, file: LocalFile): Promise<boolean> =>
  (
    await tx.query(insertFileStatement, [
      file.id,
      file.tenantId,
      file.chatId,
      file.attachmentId,
      file.providerId,
      file.name,
      file.contentType,
    ])
  ).rowCount === 1;

const insertPieceStatement: Statement = {
  name: "local_file_pieces_insert",
  text: `
    insert into local_file_pieces (tenant_id, chat_id, file_id, no, bytes)
    select f.tenant_id, f.chat_id, f.id, $3, $4
    from local_files f
    where f.id = $1
      and f.tenant_id = $2
      and f.bytes is null`,
};

/** Adds a piece of at most 256 KiB; false when the file was deleted meanwhile. */
export const insertPiece = async (
  tx: Tx,
  tenantId: TenantId,
  fileId: string,
  no: number,
  bytes: Buffer,
): Promise<boolean> => (await tx.query(insertPieceStatement, [fileId, tenantId, no, bytes])).rowCount === 1;

const completeFileStatement: Statement = {
  name: "local_files_complete",
  text: `
    update local_files
    set bytes = $3
    where id = $1
      and tenant_id = $2
      and bytes is null`,
};

/** All pieces have arrived; false when the file was deleted meanwhile. */
export const completeFile = async (
  tx: Tx,
  tenantId: TenantId,
  fileId: string,
  bytes: number,
): Promise<boolean> => (await tx.query(completeFileStatement, [fileId, tenantId, bytes])).rowCount === 1;

const selectPiece: Statement = {
  name: "local_file_pieces_select",
  text: `
    select bytes
    from local_file_pieces
    where file_id = $1
      and tenant_id = $2
      and no = $3`,
};

/** One piece; undefined behind the last, and when the file is gone. */
export const readPiece = async (
  db: Queryable,
  tenantId: TenantId,
  fileId: string,
  no: number,
): Promise<Buffer | undefined> =>
  (await db.query<{ bytes: Buffer }>(selectPiece, [fileId, tenantId, no])).rows[0]?.bytes;

const deleteFileStatement: Statement = {
  name: "local_files_delete",
  text: `
    delete from local_files
    where id = $1
      and tenant_id = $2
      and provider_id = $3`,
};

/** Takes the pieces and chunks along. */
export const deleteFile = async (
  tx: Tx,
  tenantId: TenantId,
  providerId: string,
  fileId: string,
): Promise<void> => {
  await tx.query(deleteFileStatement, [fileId, tenantId, providerId]);
};

const insertStoreStatement: Statement = {
  name: "local_stores_insert",
  text: `
    insert into local_stores (id, tenant_id, provider_id)
    values ($1, $2, $3)`,
};

export const insertStore = async (
  tx: Tx,
  tenantId: TenantId,
  providerId: string,
  storeId: string,
): Promise<void> => {
  await tx.query(insertStoreStatement, [storeId, tenantId, providerId]);
};

const deleteStoreStatement: Statement = {
  name: "local_stores_delete",
  text: `
    delete from local_stores
    where id = $1
      and tenant_id = $2
      and provider_id = $3`,
};

/** The store must be empty: `releaseFiles` first. */
export const deleteStore = async (
  tx: Tx,
  tenantId: TenantId,
  providerId: string,
  storeId: string,
): Promise<void> => {
  await tx.query(deleteStoreStatement, [storeId, tenantId, providerId]);
};

export interface ListedObject {
  readonly id: string;
  readonly name: string | null;
  readonly createdAt: Timestamp;
}

const filePage: Statement = {
  name: "local_files_list",
  text: `
    select id, name, created_at as "createdAt"
    from local_files
    where provider_id = $1
      and tenant_id = $2
      and (created_at, id) > ($3::timestamptz, $4::uuid)
    order by created_at, id
    limit 500`,
};

const storePage: Statement = {
  name: "local_stores_list",
  text: `
    select id, null as name, created_at as "createdAt"
    from local_stores
    where provider_id = $1
      and tenant_id = $2
      and (created_at, id) > ($3::timestamptz, $4::uuid)
    order by created_at, id
    limit 500`,
};

/** All objects of a tenant at a provider, oldest first, page by page. */
export async function* listObjects(
  db: Queryable,
  tenantId: TenantId,
  providerId: string,
  kind: "files" | "stores",
): AsyncGenerator<ListedObject> {
  let after: readonly [string, string] = ["-infinity", "00000000-0000-0000-0000-000000000000"];
  for (;;) {
    const page = await db.query<ListedObject>(kind === "files" ? filePage : storePage, [
      providerId,
      tenantId,
      ...after,
    ]);
    yield* page.rows;
    const last = page.rows.at(-1);
    if (last === undefined) return;
    after = [last.createdAt, last.id];
  }
}
