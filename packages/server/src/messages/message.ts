import { thumbnailView } from "../attachments/attachment.ts";
import type { AttachmentSummaryRow } from "../attachments/store.ts";
import type { Timestamp } from "../db/pool.ts";

/** A listed message, without what other tables know of it. */
export interface Message {
  readonly id: string;
  readonly requestId: string;
  readonly role: "user" | "assistant" | "system";
  readonly content: string;
  readonly model: string | null;
  readonly inputTokens: bigint;
  readonly outputTokens: bigint;
  readonly createdAt: Timestamp;
}

export type Reaction = "like" | "dislike";

/** An attachment as shown with its message (api.md §3.2). */
export interface AttachmentSummaryView {
  attachment_id: string;
  kind: "document" | "image";
  filename: string;
  status: "pending" | "uploaded" | "ready" | "failed";
  img_thumbnail?: { content_type: "image/webp"; width: number; height: number; data_base64: string };
}

/** Message as clients see it (api.md §3.2). */
export interface MessageView {
  id: string;
  request_id: string;
  role: "user" | "assistant" | "system";
  content: string;
  attachments: AttachmentSummaryView[];
  my_reaction: Reaction | null;
  model?: string;
  input_tokens?: bigint;
  output_tokens?: bigint;
  created_at: Timestamp;
}

export const attachmentSummaryView = (row: AttachmentSummaryRow): AttachmentSummaryView => ({
  attachment_id: row.attachmentId,
  kind: row.kind,
  filename: row.filename,
  status: row.status,
  ...thumbnailView(row),
});

export const messageView = (
  message: Message,
  attachments: readonly AttachmentSummaryRow[],
  reaction: Reaction | null,
): MessageView => ({
  id: message.id,
  request_id: message.requestId,
  role: message.role,
  content: message.content,
  attachments: attachments.map(attachmentSummaryView),
  my_reaction: reaction,
  ...(message.role === "assistant" && message.model !== null ? { model: message.model } : {}),
  ...(message.inputTokens > 0n ? { input_tokens: message.inputTokens } : {}),
  ...(message.outputTokens > 0n ? { output_tokens: message.outputTokens } : {}),
  created_at: message.createdAt,
});
