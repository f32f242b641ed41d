import type { Timestamp } from "../db/pool.ts";
import { AppError } from "../errors.ts";

/** A chat: a conversation of one (tenant, user), bound to one selected model. */
export interface Chat {
  readonly id: string;
  readonly model: string;
  readonly title: string | null;
  readonly isTemporary: boolean;
  readonly expiresAt: Timestamp | null;
  readonly messageCount: bigint;
  readonly createdAt: Timestamp;
  readonly updatedAt: Timestamp;
}

/** Chat as clients see it (api.md §3.2). */
export interface ChatView {
  id: string;
  model: string;
  title?: string;
  is_temporary: boolean;
  expires_at?: Timestamp;
  message_count: bigint;
  created_at: Timestamp;
  updated_at: Timestamp;
}

export const chatView = (chat: Chat): ChatView => ({
  id: chat.id,
  model: chat.model,
  ...(chat.title === null ? {} : { title: chat.title }),
  is_temporary: chat.isTemporary,
  ...(chat.expiresAt === null ? {} : { expires_at: chat.expiresAt }),
  message_count: chat.messageCount,
  created_at: chat.createdAt,
  updated_at: chat.updatedAt,
});

const maxTitleLength = 255;

/**
 * The stored form of a title: trimmed, 1–255 code points (api.md §3.1).
 * Throws 400 `invalid_request`, title Validation Error.
 */
export const normalizeTitle = (title: string): string => {
  const trimmed = title.trim();
  const length = [...trimmed].length;
  if (length >= 1 && length <= maxTitleLength) return trimmed;
  const message = length === 0 ? "must not be empty" : `must not be longer than ${maxTitleLength} characters`;
  throw new AppError("invalid_request", {
    title: "Validation Error",
    detail: `title ${message}.`,
    errors: [{ field: "title", message }],
  });
};

/** What the caller may not see does not exist: one 404 for foreign, deleted and absent chats. */
export const chatNotFound = (title?: string): AppError =>
  new AppError("chat_not_found", { ...(title === undefined ? {} : { title }), detail: "No such chat." });
