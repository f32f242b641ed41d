import type { ErasureAuditEvent } from "../outbox/events.ts";
import { wireInt, wireMillis } from "../outbox/wire.ts";

/** What the audit learns of a deleted chat whose files and vector store are gone at their providers. */
export interface ErasureAudit {
  readonly tenantId: string;
  /** Whose chat it was. */
  readonly userId: string;
  readonly chatId: string;
  /** Of the cleanup: names its log lines and its calls. */
  readonly requestId: string;
  readonly reason: ErasureAuditEvent["reason"];
  readonly files: number;
  readonly vectorStores: number;
  /** By the database; cut to milliseconds. */
  readonly deletedAt: string;
  readonly erasedAt: string;
}

/** The receipt of an erasure: counts and times, nothing a provider named. Pure. */
export const erasureAuditEvent = (erasure: ErasureAudit): ErasureAuditEvent => ({
  type: "erasure",
  event_type: "chat_provider_data_erased",
  timestamp: wireMillis(erasure.erasedAt),
  tenant_id: erasure.tenantId,
  requester_type: "system",
  user_id: erasure.userId,
  chat_id: erasure.chatId,
  request_id: erasure.requestId,
  reason: erasure.reason,
  chat_deleted_at: wireMillis(erasure.deletedAt),
  files_deleted: wireInt(erasure.files),
  stores_deleted: wireInt(erasure.vectorStores),
});
