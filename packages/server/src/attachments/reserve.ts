import type { Actor } from "../auth/actor.ts";
import { chatNotFound } from "../chats/chat.ts";
import { lockOwnChat } from "../chats/store.ts";
import type { Db } from "../db/pool.ts";
import { inTransaction } from "../db/tx.ts";
import { AppError } from "../errors.ts";
import { uuidV7 } from "../lib/id.ts";
import type { ProviderStorage } from "../providers/storage-contract.ts";
import { imageBytesToday } from "../quota/image-bytes-store.ts";
import { chatLimit, type UploadLimits } from "./limits.ts";
import type { FileType } from "./mime.ts";
import { type AttachmentKey, findTotals, insertPendingAttachment } from "./upload-store.ts";

export interface ReserveDeps {
  readonly db: Db;
  readonly limits: UploadLimits;
  /** Bytes per user and UTC day; null = no limit. */
  readonly imageBytesPerDay: number | null;
}

/** A file that may be taken in as soon as there is a row for it. */
export interface Reservation {
  readonly chatId: string;
  readonly filename: string;
  readonly type: FileType;
  /** Of the whole request, slightly more than the file; 0 = not known. */
  readonly sizeHint: number;
  readonly storage: ProviderStorage;
}

/** Title of a chat that is not there, on the routes of attachments (api.md §5.2). */
export const noChatTitle = "Chat not found";

export const storageLimitExceeded = (limits: UploadLimits): AppError =>
  new AppError("storage_limit_exceeded", {
    detail: `The files of a chat may take ${limits.max_total_upload_mb_per_chat} MiB.`,
  });

/**
 * Makes the `pending` row while the chat is locked, so that uploads of one chat are counted one after the
 * other (attachments.md §7). Throws 404 for a chat deleted meanwhile, 400 over the limits of the chat, and
 * 429 over the user's image bytes of the day.
 */
export const reserveAttachment = async (
  deps: ReserveDeps,
  actor: Actor,
  file: Reservation,
): Promise<AttachmentKey> => {
  const { limits } = deps;
  if (file.type.kind === "image") await refuseOverQuota(deps, actor, file.sizeHint);
  const row = { tenantId: actor.tenantId, chatId: file.chatId, id: uuidV7() };
  await inTransaction(deps.db, async (tx) => {
    if (!(await lockOwnChat(tx, actor, file.chatId))) throw chatNotFound(noChatTitle);
    const totals = await findTotals(tx, actor.tenantId, file.chatId);
    if (file.type.kind === "document" && totals.documents >= limits.max_documents_per_chat) {
      throw new AppError("document_limit_exceeded", {
        detail: `A chat may hold ${limits.max_documents_per_chat} documents.`,
      });
    }
    if (file.sizeHint > 0 && totals.bytes + BigInt(file.sizeHint) > chatLimit(limits)) {
      throw storageLimitExceeded(limits);
    }
    const { storageBackend, providerId } = file.storage;
    await insertPendingAttachment(tx, actor, { ...row, ...file, storageBackend, providerId });
  });
  return row;
};

const refuseOverQuota = async (deps: ReserveDeps, actor: Actor, sizeHint: number): Promise<void> => {
  if (deps.imageBytesPerDay === null) return;
  const used = await imageBytesToday(deps.db, actor);
  // A file of unknown size has one byte at least.
  if (used + BigInt(Math.max(sizeHint, 1)) <= BigInt(deps.imageBytesPerDay)) return;
  throw new AppError("quota_exceeded", {
    detail: "The images you may upload in a day are used up.",
    quotaScope: "uploads",
  });
};
