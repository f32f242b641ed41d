import { randomUUID } from "node:crypto";
import type { OutboxEvent } from "../outbox/events.ts";
import { wireMillis } from "../outbox/wire.ts";
import type { CleanupRow } from "./cleanup-scan-store.ts";

/** A chat whose cleanup is to run again. */
export interface ChatToClean {
  readonly tenantId: string;
  readonly chatId: string;
  readonly chatDeletedAt: string;
}

/** The event a chat's cleanup runs by. Why the chat was deleted is not kept, and changes nothing. */
export const chatCleanupEvent = ({ tenantId, chatId, chatDeletedAt }: ChatToClean): OutboxEvent => ({
  kind: "chat_cleanup",
  event: {
    reason: "chat_soft_delete",
    tenant_id: tenantId,
    chat_id: chatId,
    system_request_id: randomUUID(),
    chat_deleted_at: wireMillis(chatDeletedAt),
  },
});

/** The event this row's cleanup runs by: that of its chat, once the chat is deleted. */
export const cleanupEvent = (row: CleanupRow): OutboxEvent =>
  row.chatDeletedAt === null
    ? attachmentEvent(row)
    : chatCleanupEvent({ ...row, chatDeletedAt: row.chatDeletedAt });

const attachmentEvent = (row: CleanupRow): OutboxEvent => ({
  kind: "attachment_cleanup",
  event: {
    event_type: "attachment_deleted",
    tenant_id: row.tenantId,
    chat_id: row.chatId,
    attachment_id: row.id,
    provider_file_id: row.providerFileId,
    vector_store_id: row.vectorStoreId,
    storage_backend: row.storageBackend,
    attachment_kind: row.kind,
    deleted_at: wireMillis(row.since),
  },
});
