import { randomUUID } from "node:crypto";
import { asTenantId, type TenantId } from "../../src/auth/actor.ts";
import type { Db } from "../../src/db/pool.ts";
import type { ProviderStorage } from "../../src/providers/storage-contract.ts";
import { inPieces, mime } from "./support.ts";

export interface TestChat {
  readonly tenantId: TenantId;
  readonly chatId: string;
}

export const newTenant = (): TenantId => asTenantId(randomUUID());

export const createChat = async (db: Db, tenantId: TenantId = newTenant()): Promise<TestChat> => {
  const chatId = randomUUID();
  await db.query("insert into chats (id, tenant_id, user_id, model) values ($1, $2, $3, 'standard')", [
    chatId,
    tenantId,
    randomUUID(),
  ]);
  return { tenantId, chatId };
};

/** The row an upload begins with. */
export const createAttachment = async (
  db: Db,
  { tenantId, chatId }: TestChat,
  filename = "file.txt",
): Promise<string> => {
  const id = randomUUID();
  await db.query(
    `insert into attachments (id, tenant_id, chat_id, uploaded_by_user_id, filename, content_type, size_bytes,
       storage_backend, provider_id, status, attachment_kind, for_file_search)
     values ($1, $2, $3, $4, $5, 'x', 0, 'local', 'p', 'pending', 'document', true)`,
    [id, tenantId, chatId, randomUUID(), filename],
  );
  return id;
};

export const contextOf = ({ tenantId }: Pick<TestChat, "tenantId">) => ({
  tenantId,
  correlationId: "test",
});

export interface AddedFile {
  readonly attachmentId: string;
  readonly fileId: string;
  readonly storeId: string;
  readonly status: string;
}

/** What an upload does: row, bytes, store, index, ready. */
export const addDocument = async (
  db: Db,
  storage: ProviderStorage,
  chat: TestChat,
  document: { readonly filename?: string; readonly content: Uint8Array | string; readonly type?: string },
  store?: string,
): Promise<AddedFile> => {
  const context = contextOf(chat);
  const attachmentId = await createAttachment(db, chat, document.filename);
  const bytes = typeof document.content === "string" ? Buffer.from(document.content) : document.content;
  const { providerFileId: fileId } = await storage.files.upload(context, {
    name: `${chat.chatId}_${attachmentId}.txt`,
    contentType: document.type ?? mime.txt,
    stream: inPieces(bytes),
  });
  const storeId = store ?? (await storage.stores.create(context));
  let status = await storage.stores.addFile(context, storeId, fileId, { attachment_id: attachmentId });
  const giveUpAt = Date.now() + 20_000;
  while (status === "in_progress" && Date.now() < giveUpAt) {
    await new Promise((resolve) => setTimeout(resolve, 20));
    status = await storage.stores.fileStatus(context, storeId, fileId);
  }
  await db.query(
    "update attachments set status = 'ready', provider_file_id = $1 where id = $2 and tenant_id = $3",
    [fileId, attachmentId, chat.tenantId],
  );
  return { attachmentId, fileId, storeId, status };
};

/** Rows that belong to a file, by table. */
export const rowsOf = async (db: Db, fileId: string): Promise<Record<string, number>> => {
  const { rows } = await db.query<Record<string, number>>(
    `select
       (select count(*)::int from local_files where id = $1) as files,
       (select count(*)::int from local_file_pieces where file_id = $1) as pieces,
       (select count(*)::int from local_chunks where file_id = $1) as chunks`,
    [fileId],
  );
  return rows[0] ?? {};
};
