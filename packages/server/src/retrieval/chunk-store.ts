import type { TenantId } from "../auth/actor.ts";
import { type Queryable, type Statement, sqlState } from "../db/pool.ts";
import type { Tx } from "../db/tx.ts";
import { ExtractionError, type ExtractionFailure } from "./extract/block.ts";

/** The SQL of indexing: which file is whose turn, and its chunks. */

const addStatement: Statement = {
  name: "local_files_add",
  text: `
    update local_files f
    set
      store_id = s.id,
      index_status = coalesce(f.index_status, 'in_progress')
    from local_stores s
    where f.id = $1
      and f.tenant_id = $2
      and f.provider_id = $3
      and f.bytes is not null
      and (f.store_id is null or f.store_id = $4)
      and s.id = $4
      and s.tenant_id = $2
      and s.provider_id = $3
    returning f.index_status as status`,
};

export type LocalIndexStatus = "in_progress" | "completed" | "failed";

/** Puts a complete file on the list of those to be indexed; null when the file or the store is not there. */
export const addToStore = async (
  tx: Tx,
  file: { tenantId: TenantId; providerId: string; fileId: string; storeId: string },
): Promise<LocalIndexStatus | null> =>
  (
    await tx.query<{ status: LocalIndexStatus }>(addStatement, [
      file.fileId,
      file.tenantId,
      file.providerId,
      file.storeId,
    ])
  ).rows[0]?.status ?? null;

const selectStatus: Statement = {
  name: "local_files_status",
  text: `
    select index_status as status
    from local_files
    where id = $1
      and tenant_id = $2
      and provider_id = $3
      and store_id = $4`,
};

export const findIndexStatus = async (
  db: Queryable,
  file: { tenantId: TenantId; providerId: string; fileId: string; storeId: string },
): Promise<LocalIndexStatus | null> =>
  (
    await db.query<{ status: LocalIndexStatus }>(selectStatus, [
      file.fileId,
      file.tenantId,
      file.providerId,
      file.storeId,
    ])
  ).rows[0]?.status ?? null;

const releaseStatement: Statement = {
  name: "local_files_release",
  text: `
    with released as (
      update local_files
      set
        store_id = null,
        index_status = null,
        index_failure = null,
        index_attempts = 0,
        index_claim = null,
        index_claimed_until = null,
        truncated = false,
        chunks = 0
      where tenant_id = $1
        and provider_id = $2
        and store_id = $3
        and ($4::uuid is null or id = $4)
      returning id
    )
    delete from local_chunks c
    using released r
    where c.file_id = r.id
      and c.tenant_id = $1`,
};

/** Takes a file, or all of them, out of a store: their chunks go, their bytes stay. */
export const releaseFiles = async (
  tx: Tx,
  store: { tenantId: TenantId; providerId: string; storeId: string },
  fileId: string | null,
): Promise<void> => {
  await tx.query(releaseStatement, [store.tenantId, store.providerId, store.storeId, fileId]);
};

export interface ClaimedFile {
  readonly id: string;
  readonly tenantId: TenantId;
  readonly contentType: string;
  readonly bytes: bigint;
  readonly attempts: number;
}

const nextStatement: Statement = {
  name: "local_files_next",
  text: `
    select id, tenant_id as "tenantId"
    from local_files
    where index_status = 'in_progress'
      and (index_claimed_until is null or index_claimed_until < now())
    order by created_at
    limit 1
    for update skip locked`,
};

const claimStatement: Statement = {
  name: "local_files_claim",
  text: `
    with removed as (
      delete from local_chunks
      where file_id = $1
        and tenant_id = $2
    )
    update local_files
    set
      index_claim = $3,
      index_claimed_until = now() + $4 * interval '1 second',
      index_attempts = index_attempts + 1
    where id = $1
      and tenant_id = $2
    returning id, tenant_id as "tenantId", content_type as "contentType", bytes, index_attempts as attempts`,
};

/**
 * The file that has waited longest, or whose holder's time is over, of any tenant; chunks of an earlier
 * attempt are removed. Undefined when there is none.
 */
export const claimFile = async (
  tx: Tx,
  claim: string,
  leaseSecs: number,
): Promise<ClaimedFile | undefined> => {
  const next = (await tx.query<{ id: string; tenantId: TenantId }>(nextStatement)).rows[0];
  if (next === undefined) return undefined;
  return (await tx.query<ClaimedFile>(claimStatement, [next.id, next.tenantId, claim, leaseSecs])).rows[0];
};

const insertStatement: Statement = {
  name: "local_chunks_insert",
  text: `
    with held as (
      update local_files
      set index_claimed_until = now() + $4 * interval '1 second'
      where id = $1
        and tenant_id = $2
        and index_claim = $3
      returning id, tenant_id, chat_id
    )
    insert into local_chunks (
      tenant_id, chat_id, file_id, no, content, overlap,
      place_kind, place_from, place_to, place_name, words
    )
    select
      h.tenant_id, h.chat_id, h.id, c.no, c.content, c.overlap,
      c.kind, c."from", c."to", c.name, c.words::tsvector
    from held h
    cross join jsonb_to_recordset($5::jsonb) as c (
      no int, content text, overlap int, kind text, "from" int, "to" int, name text, words text
    )`,
};

/**
 * Stores a batch of chunks (JSON of `StoredChunk[]`) and prolongs the claim; false when it is lost. Throws
 * `ExtractionError` `malformed` for values no column takes.
 */
export const insertChunks = async (
  tx: Tx,
  file: ClaimedFile,
  claim: string,
  leaseSecs: number,
  chunks: string,
): Promise<boolean> => {
  try {
    const values = [file.id, file.tenantId, claim, leaseSecs, chunks];
    return (await tx.query(insertStatement, values)).rowCount > 0;
  } catch (error) {
    // Class 22, data exception: every attempt would end the same.
    throw sqlState(error)?.startsWith("22") ? new ExtractionError("malformed") : error;
  }
};

const settleStatement: Statement = {
  name: "local_files_settle",
  text: `
    with settled as (
      update local_files
      set
        index_status = case when $4::text is null then 'completed' else 'failed' end,
        index_failure = $4,
        chunks = $5,
        truncated = $6,
        index_claim = null,
        index_claimed_until = null
      where id = $1
        and tenant_id = $2
        and index_claim = $3
      returning id, index_failure
    ),
    removed as (
      delete from local_chunks c
      using settled s
      where s.index_failure is not null
        and c.file_id = s.id
        and c.tenant_id = $2
    )
    select id from settled`,
};

/** Ends the indexing of a file, whose chunks go if it failed; false when the claim is lost. */
export const settleIndexing = async (
  tx: Tx,
  file: ClaimedFile,
  claim: string,
  result: { failure: ExtractionFailure } | { chunks: number; truncated: boolean },
): Promise<boolean> =>
  (
    await tx.query(settleStatement, [
      file.id,
      file.tenantId,
      claim,
      "failure" in result ? result.failure : null,
      "failure" in result ? 0 : result.chunks,
      "failure" in result ? false : result.truncated,
    ])
  ).rowCount === 1;

const giveBackStatement: Statement = {
  name: "local_files_give_back",
  text: `
    update local_files
    set
      index_claim = null,
      index_claimed_until = null,
      index_attempts = index_attempts - 1
    where id = $1
      and tenant_id = $2
      and index_claim = $3`,
};

/** The file may be taken by another process at once, as if it had not been tried. */
export const giveBack = async (tx: Tx, file: ClaimedFile, claim: string): Promise<void> => {
  await tx.query(giveBackStatement, [file.id, file.tenantId, claim]);
};
