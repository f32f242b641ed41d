import { randomUUID } from "node:crypto";
import type { Simulator } from "@mini-chat/simulator";
import type { Tree } from "../../src/config/tree.ts";
import type { Db } from "../../src/db/pool.ts";
import { callers } from "../support/config.ts";

/** What lies at the provider of one chat: as an upload leaves it, written by the test. */
export interface Stocked {
  readonly chatId: string;
  /** Attachment ids, in the order made. */
  readonly attachmentIds: readonly string[];
  readonly fileIds: readonly string[];
  readonly storeId: string | null;
}

export interface Stock {
  readonly documents?: number;
  readonly images?: number;
  /** Default: with documents. */
  readonly store?: boolean;
}

/** Puts files, and with documents a vector store, at the simulator and into the chat's rows. */
export const stockChat = async (
  db: Db,
  simulator: Simulator,
  chatId: string,
  { documents = 0, images = 0, store = documents > 0 }: Stock,
): Promise<Stocked> => {
  const storeId = store ? await createStore(db, simulator, chatId) : null;
  const attachmentIds: string[] = [];
  const fileIds: string[] = [];
  for (let n = 0; n < documents + images; n += 1) {
    const isDocument = n < documents;
    const id = randomUUID();
    const fileId = await uploadFile(simulator, `${chatId}_${id}.${isDocument ? "txt" : "png"}`);
    if (isDocument && storeId !== null) await addToStore(simulator, storeId, fileId);
    await insertAttachment(db, chatId, { id, fileId, kind: isDocument ? "document" : "image" });
    attachmentIds.push(id);
    fileIds.push(fileId);
  }
  return { chatId, attachmentIds, fileIds, storeId };
};

export const uploadFile = async (simulator: Simulator, name: string): Promise<string> => {
  const form = new FormData();
  form.set("purpose", "assistants");
  form.set("file", new Blob(["content"], { type: "text/plain" }), name);
  return idOf(await fetch(`${simulator.url}/v1/files`, { method: "POST", body: form }));
};

export const createProviderStore = async (simulator: Simulator, name?: string): Promise<string> =>
  idOf(await postJson(`${simulator.url}/v1/vector_stores`, name === undefined ? {} : { name }));

const createStore = async (db: Db, simulator: Simulator, chatId: string): Promise<string> => {
  const storeId = await createProviderStore(simulator);
  await insertStore(db, chatId, storeId);
  return storeId;
};

export const insertStore = (db: Db, chatId: string, storeId: string | null): Promise<unknown> =>
  db.query(
    `insert into chat_vector_stores (id, tenant_id, chat_id, vector_store_id, provider, provider_id)
     values ($1, $2, $3, $4, 'sim', 'sim')`,
    [randomUUID(), callers.ann.tenantId, chatId, storeId],
  );

const addToStore = (simulator: Simulator, storeId: string, fileId: string): Promise<Response> =>
  postJson(`${simulator.url}/v1/vector_stores/${storeId}/files`, { file_id: fileId });

const postJson = (url: string, body: object): Promise<Response> =>
  fetch(url, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify(body),
  });

const idOf = async (response: Response): Promise<string> =>
  ((await response.json()) as { readonly id: string }).id;

export interface NewAttachment {
  readonly id?: string;
  readonly fileId: string | null;
  readonly kind?: "document" | "image";
  readonly status?: "pending" | "uploaded" | "ready" | "failed";
  /** Seconds since it was touched. */
  readonly ageSecs?: number;
  readonly cleanupStatus?: "pending" | "done" | "failed" | null;
  readonly deleted?: boolean;
}

/** A row as an upload leaves it; its id. */
export const insertAttachment = async (
  db: Db,
  chatId: string,
  attachment: NewAttachment,
): Promise<string> => {
  const { id = randomUUID(), fileId, kind = "document", status = "ready" } = attachment;
  const { ageSecs = 0, cleanupStatus = null, deleted = false } = attachment;
  await db.query(
    `insert into attachments (
       id, tenant_id, chat_id, uploaded_by_user_id, filename, content_type, size_bytes, storage_backend,
       provider_id, provider_file_id, status, error_code, attachment_kind, for_file_search,
       cleanup_status, cleanup_updated_at, updated_at, deleted_at
     )
     values (
       $1, $2, $3, $4, 'plan.txt', 'text/plain', 7, 'sim', 'sim', $5, $6::varchar,
       case when $6::varchar = 'failed' then 'upload_failed' end, $7::varchar, $7::varchar = 'document',
       $8::varchar, case when $8::varchar is not null then now() - $9::int * interval '1 second' end,
       now() - $9::int * interval '1 second', case when $10 then now() end
     )`,
    [
      id,
      callers.ann.tenantId,
      chatId,
      callers.ann.userId,
      fileId,
      status,
      kind,
      cleanupStatus,
      ageSecs,
      deleted,
    ],
  );
  return id;
};

export interface CleanupColumns {
  readonly id: string;
  readonly status: string;
  readonly errorCode: string | null;
  readonly cleanupStatus: string | null;
  readonly attempts: number;
  readonly error: string | null;
}

/** The bookkeeping of a chat's attachments, by id. */
export const cleanupOf = async (db: Db, chatId: string): Promise<CleanupColumns[]> =>
  (
    await db.query<CleanupColumns>(
      `select id, status, error_code as "errorCode", cleanup_status as "cleanupStatus",
         cleanup_attempts as attempts, last_cleanup_error as error
       from attachments
       where chat_id = $1
       order by id`,
      [chatId],
    )
  ).rows;

/** How far the cleanups of a chat are: how many rows in which state. */
export const statesOf = async (db: Db, chatId: string): Promise<Record<string, number>> => {
  const states = (await cleanupOf(db, chatId)).map(({ cleanupStatus }) => cleanupStatus ?? "none");
  return Object.fromEntries([...new Set(states)].map((one) => [one, states.filter((s) => s === one).length]));
};

export const storeRows = async (db: Db, chatId: string): Promise<number> =>
  (await db.query("select from chat_vector_stores where chat_id = $1", [chatId])).rowCount;

/** Cleanup events that wait, and dead letters of them. */
export const cleanupEvents = async (
  db: Db,
): Promise<{ readonly waiting: number; readonly dead: readonly string[] }> => {
  const queues = ["mini-chat.attachment_cleanup", "mini-chat.chat_cleanup"];
  const waiting = await db.query(
    `select from outbox_message m join outbox_partition p on p.id = m.partition_id where p.queue = any($1)`,
    [queues],
  );
  const dead = await db.query<{ error: string }>("select error from outbox_dead where queue = any($1)", [
    queues,
  ]);
  return { waiting: waiting.rowCount, dead: dead.rows.map(({ error }) => error) };
};

/** As deleting one attachment does (attachments.md §11); with the event it writes, made by hand. */
export const softDelete = async (db: Db, attachmentId: string): Promise<void> => {
  await db.query(
    `update attachments
     set deleted_at = now(), cleanup_status = 'pending', cleanup_updated_at = now()
     where id = $1`,
    [attachmentId],
  );
};

/** Receipts in the table of audit events, which the tests of cleanup publish to. */
export const receiptsOf = async (db: Db, chatId?: string): Promise<Record<string, unknown>[]> =>
  (
    await db.query<{ event: Record<string, unknown> }>(
      `select event from audit_events
       where event_type = 'chat_provider_data_erased' and ($1::uuid is null or chat_id = $1)`,
      [chatId ?? null],
    )
  ).rows.map(({ event }) => event);

/** Files at the simulator, receipts in a table, and failed events soon again. */
export const cleanupConfig: Tree = {
  providers: { sim: { storage_kind: "openai", breaker: { failure_threshold: 1_000 } } },
  plugins: { audit: { type: "postgres" } },
  outbox: { retry_base_ms: 1, retry_max_ms: 20, poll_interval_ms: 50 },
};

/** Writes an event as it stands, readable or not. */
export const enqueueRaw = async (
  db: Db,
  kind: "chat_cleanup" | "attachment_cleanup",
  orderKey: string,
  payload: object,
): Promise<void> => {
  const { rowCount } = await db.query(
    `insert into outbox_message (partition_id, tenant_id, order_key, kind, payload)
     select id, $1, $2, $3::varchar, $4
     from outbox_partition p
     where queue = 'mini-chat.' || $3::varchar
       and no = $5::int % (select count(*) from outbox_partition where queue = p.queue)`,
    [callers.ann.tenantId, orderKey, kind, JSON.stringify(payload), Number.parseInt(orderKey.slice(-2), 16)],
  );
  if (rowCount !== 1) throw new Error("the event has no partition");
};
