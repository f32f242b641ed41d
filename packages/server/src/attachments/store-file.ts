import { randomUUID } from "node:crypto";
import type { Actor } from "../auth/actor.ts";
import { inTransaction } from "../db/tx.ts";
import { AppError } from "../errors.ts";
import type { OutboxEnqueuer } from "../outbox/enqueuer.ts";
import { type ProviderStorage, type StorageContext, StorageError } from "../providers/storage-contract.ts";
import { addImageBytes } from "../quota/image-bytes-store.ts";
import type { Metrics } from "../telemetry/metrics.ts";
import { untilAnswered } from "./answer-wait.ts";
import { type Attachment, attachmentNotFound, type Thumbnail, type UploadErrorCode } from "./attachment.ts";
import type { OpenedBody } from "./body.ts";
import { type FailDeps, failUpload, storageRefusal } from "./fail.ts";
import { waitForIndex } from "./index-wait.ts";
import { chatLimit, type UploadLimits } from "./limits.ts";
import { type FileType, isSpreadsheet } from "./mime.ts";
import { storageLimitExceeded } from "./reserve.ts";
import { makeThumbnail, type ThumbnailLimits } from "./thumbnail.ts";
import {
  type AttachmentKey,
  findTotals,
  markAttachmentReady,
  markAttachmentUploaded,
} from "./upload-store.ts";
import { ensureVectorStore } from "./vector-store.ts";
import { countIndexedFiles } from "./vector-store-store.ts";

export interface StoreFileDeps extends FailDeps {
  readonly outbox: FailDeps["outbox"] & Pick<OutboxEnqueuer, "enqueueDocSummary">;
  readonly metrics: Metrics;
  readonly limits: UploadLimits;
  readonly thumbnails: ThumbnailLimits;
  readonly indexWaitMs: number;
  readonly docSummaries: boolean;
}

/** A reserved upload. */
export interface PendingUpload {
  readonly actor: Actor;
  readonly row: AttachmentKey;
  readonly type: FileType;
  readonly body: OpenedBody;
  readonly storage: ProviderStorage;
  readonly correlationId: string;
  /** Its reason is what the client is told. */
  readonly signal: AbortSignal;
}

/** How far an upload has come, for whoever has to end it. */
interface Progress {
  errorCode: UploadErrorCode;
  providerFileId: string | null;
}

/**
 * Takes a `pending` row to `ready` (attachments.md §8): the file to the provider, a document into the
 * chat's store, an image's preview beside it. Between the steps nothing is held, so a crash anywhere
 * leaves a row the rule for stale uploads finds. Ends the row as `failed` and rethrows as an `AppError`.
 */
export const storeFile = async (deps: StoreFileDeps, upload: PendingUpload): Promise<Attachment> => {
  const progress: Progress = { errorCode: "upload_failed", providerFileId: null };
  deps.metrics.add("attachments_pending", {}, 1);
  try {
    return await process(deps, upload, progress);
  } catch (thrown) {
    const error = thrown instanceof StorageError ? storageRefusal(thrown) : thrown;
    await failUpload(deps, {
      row: upload.row,
      kind: upload.type.kind,
      storageBackend: upload.storage.storageBackend,
      providerFileId: progress.providerFileId,
      errorCode: errorCodeOf(error, upload.signal) ?? progress.errorCode,
    });
    if (upload.signal.aborted) throw upload.signal.reason;
    throw error;
  } finally {
    deps.metrics.add("attachments_pending", {}, -1);
  }
};

/** The code of a failure that is not of the step it happened in. */
const errorCodeOf = (error: unknown, signal: AbortSignal): UploadErrorCode | null => {
  if (signal.aborted) return "upload_interrupted";
  if (!(error instanceof AppError)) return null;
  if (error.code === "file_too_large" || error.code === "storage_limit_exceeded") return error.code;
  // The form ended, or stopped, in the middle of the file.
  return error.code === "invalid_request" ? "upload_interrupted" : null;
};

const process = async (
  deps: StoreFileDeps,
  upload: PendingUpload,
  progress: Progress,
): Promise<Attachment> => {
  const { row, type, body, storage, signal } = upload;
  const context = { tenantId: row.tenantId, correlationId: upload.correlationId, signal };
  const file = {
    name: `${row.chatId}_${row.id}.${type.extension}`,
    contentType: type.mime,
    stream: body.stream,
  };
  const { providerFileId } = await untilAnswered(signal, body.ended, (whileWanted) =>
    storage.files.upload({ ...context, signal: whileWanted }, file),
  );
  progress.providerFileId = providerFileId;
  signal.throwIfAborted();
  const createdAt = await inTransaction(deps.db, (tx) =>
    markAttachmentUploaded(tx, row, { providerFileId, bytes: body.bytes() }),
  );
  if (createdAt === null) throw attachmentNotFound();
  // After the commit: of uploads that end together the last one sees them all (attachments.md §7).
  const totals = await findTotals(deps.db, row.tenantId, row.chatId);
  if (totals.bytes > chatLimit(deps.limits)) throw storageLimitExceeded(deps.limits);
  if (type.purpose === "file_search") {
    await index(deps, upload, context, progress, { providerFileId, createdAt });
  }
  const thumbnail =
    type.kind === "image" ? await makeThumbnail(body.copy(), deps.thumbnails, deps.logger) : null;
  signal.throwIfAborted();
  return markReady(deps, upload, thumbnail);
};

const index = async (
  deps: StoreFileDeps,
  { row, storage }: PendingUpload,
  context: StorageContext,
  progress: Progress,
  file: { readonly providerFileId: string; readonly createdAt: string },
): Promise<void> => {
  const { providerFileId } = file;
  progress.errorCode = "vector_store_failed";
  const storeId = await ensureVectorStore(deps, row, storage, context);
  progress.errorCode = "indexing_failed";
  const begin = performance.now();
  let result: "ok" | "failed" = "failed";
  try {
    const attributes = { attachment_id: row.id, uploaded_at: file.createdAt };
    const added = await storage.stores.addFile(context, storeId, providerFileId, attributes);
    const usable = await waitForIndex(storage, context, { storeId, providerFileId }, added, deps.indexWaitMs);
    if (!usable) {
      throw new StorageError("provider_rejected", { detail: "indexing failed", retryable: false });
    }
    result = "ok";
  } finally {
    deps.metrics.count("attachment_index", { result });
    deps.metrics.observe("attachment_index_latency_ms", {}, performance.now() - begin);
  }
};

const markReady = (
  deps: StoreFileDeps,
  { actor, row, type }: PendingUpload,
  thumbnail: Thumbnail | null,
): Promise<Attachment> =>
  inTransaction(deps.db, async (tx) => {
    const ready = await markAttachmentReady(tx, row, thumbnail);
    if (ready === null) throw attachmentNotFound();
    if (type.kind === "image") await addImageBytes(tx, actor, ready.sizeBytes);
    if (type.purpose !== "file_search") return ready;
    await countIndexedFiles(tx, row, 1);
    if (!deps.docSummaries || isSpreadsheet(type)) return ready;
    await deps.outbox.enqueueDocSummary(tx, {
      tenant_id: row.tenantId,
      chat_id: row.chatId,
      attachment_id: row.id,
      system_request_id: randomUUID(),
      system_task_type: "doc_summary_generation",
    });
    tx.afterCommit(deps.outbox.flush);
    return ready;
  });
