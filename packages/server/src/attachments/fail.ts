import { randomUUID } from "node:crypto";
import { findDeletionOfChat } from "../chats/store.ts";
import type { Db } from "../db/pool.ts";
import { inTransaction, type Tx } from "../db/tx.ts";
import { AppError } from "../errors.ts";
import type { OutboxEnqueuer } from "../outbox/enqueuer.ts";
import { wireMillis } from "../outbox/wire.ts";
import type { StorageError, StorageErrorCode } from "../providers/storage-contract.ts";
import type { Logger } from "../telemetry/log.ts";
import type { UploadErrorCode } from "./attachment.ts";
import { refusedForm } from "./form.ts";
import type { AttachmentKind } from "./mime.ts";
import { type AttachmentKey, keepLostProviderFile, markAttachmentFailed } from "./upload-store.ts";
import { findStore } from "./vector-store-store.ts";

export interface FailDeps {
  readonly db: Db;
  readonly outbox: Pick<OutboxEnqueuer, "enqueueAttachmentCleanup" | "enqueueChatCleanup" | "flush">;
  readonly logger: Logger;
}

/** An upload that will not be ready. */
export interface FailedUpload {
  readonly row: AttachmentKey;
  readonly kind: AttachmentKind;
  readonly storageBackend: string;
  /** Null when the provider has not told of a file. */
  readonly providerFileId: string | null;
  readonly errorCode: UploadErrorCode;
}

/**
 * Ends an upload as `failed`; a file the provider has is due for cleanup with the same commit. A row lost
 * to a delete stays as it is, but for a file it did not know of (attachments.md §8). Never throws: what
 * the database does not take now is found by the rule for stale uploads (§17).
 */
export const failUpload = async (deps: FailDeps, upload: FailedUpload): Promise<void> => {
  try {
    await inTransaction(deps.db, (tx) => settleFailure(deps, tx, upload));
  } catch (error) {
    const ids = { attachment_id: upload.row.id, processing_stage: "upload" };
    deps.logger.error({ ...ids, err: error }, "failed upload not recorded");
  }
};

const settleFailure = async (deps: FailDeps, tx: Tx, upload: FailedUpload): Promise<void> => {
  const { row, providerFileId } = upload;
  const failedAt = await markAttachmentFailed(tx, row, upload);
  if (providerFileId === null) return;
  if (failedAt !== null) return enqueueCleanup(deps, tx, upload, failedAt);
  const lostAt = await keepLostProviderFile(tx, row, providerFileId);
  if (lostAt === null) return;
  // Files of a deleted chat are the business of its own cleanup, which may be over (outbox.md §10).
  const chatDeletedAt = await findDeletionOfChat(tx, row.tenantId, row.chatId);
  if (chatDeletedAt === null) return enqueueCleanup(deps, tx, upload, lostAt);
  await cleanUpChatAgain(deps, tx, row, chatDeletedAt);
};

/** Has the cleanup of a deleted chat look once more: something of it has come to a provider since. */
export const cleanUpChatAgain = async (
  { outbox }: Pick<FailDeps, "outbox">,
  tx: Tx,
  chat: Pick<AttachmentKey, "tenantId" | "chatId">,
  chatDeletedAt: string,
): Promise<void> => {
  await outbox.enqueueChatCleanup(tx, {
    reason: "chat_soft_delete",
    tenant_id: chat.tenantId,
    chat_id: chat.chatId,
    system_request_id: randomUUID(),
    chat_deleted_at: wireMillis(chatDeletedAt),
  });
  tx.afterCommit(outbox.flush);
};

const enqueueCleanup = async (
  { outbox }: FailDeps,
  tx: Tx,
  { row, kind, storageBackend, providerFileId }: FailedUpload,
  at: string,
): Promise<void> => {
  const store = kind === "document" ? await findStore(tx, row) : null;
  await outbox.enqueueAttachmentCleanup(tx, {
    event_type: "attachment_deleted",
    tenant_id: row.tenantId,
    chat_id: row.chatId,
    attachment_id: row.id,
    provider_file_id: providerFileId,
    vector_store_id: store?.vectorStoreId ?? null,
    storage_backend: storageBackend,
    attachment_kind: kind,
    deleted_at: wireMillis(at),
  });
  tx.afterCommit(outbox.flush);
};

const details: Readonly<Record<StorageErrorCode, string>> = {
  provider_rejected: "The provider did not accept the file.",
  provider_unavailable: "The provider of the file storage is not available.",
  response_parse_error: "The provider of the file storage answered something unexpected.",
  configuration_error: "The file storage is not configured.",
};

/**
 * What the client is told of a failed call: a fixed text, and 400 where it stopped sending itself. The
 * provider's own is in the log (attachments.md §8).
 */
export const storageRefusal = ({ code, reason }: StorageError): AppError =>
  reason === "stalled"
    ? refusedForm("Multipart Error", "The file did not arrive in time.")
    : new AppError(code, { detail: details[code] });
