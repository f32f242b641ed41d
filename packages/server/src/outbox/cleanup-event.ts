import { z } from "zod";
import type { AttachmentCleanupEvent, ChatCleanupEvent } from "./events.ts";
import { orNull, readPayload, wireTimestamp, wireUuid } from "./wire.ts";

const attachmentCleanup = z.object({
  event_type: z.literal("attachment_deleted"),
  tenant_id: wireUuid,
  chat_id: wireUuid,
  attachment_id: wireUuid,
  provider_file_id: orNull(z.string().max(128)),
  vector_store_id: orNull(z.string().max(128)),
  storage_backend: z.string().max(32),
  attachment_kind: z.enum(["document", "image"]),
  // Informational: readers do not require it.
  deleted_at: wireTimestamp.optional().default("1970-01-01T00:00:00.000Z"),
});

const chatCleanup = z.object({
  reason: z.enum(["chat_soft_delete", "temporary_chat_expired"]),
  tenant_id: wireUuid,
  chat_id: wireUuid,
  system_request_id: wireUuid,
  chat_deleted_at: wireTimestamp,
});

/** Reads an attachment-cleanup payload (outbox.md §4.2); throws as `readPayload`. */
export const readAttachmentCleanup = (payload: string): AttachmentCleanupEvent =>
  readPayload(attachmentCleanup, payload);

/** Reads a chat-cleanup payload (outbox.md §4.3); throws as `readPayload`. */
export const readChatCleanup = (payload: string): ChatCleanupEvent => readPayload(chatCleanup, payload);
