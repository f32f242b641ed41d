import type { Citation } from "@mini-chat/client";

/** What can be done with a turn from its rows; the same functions as long as a conversation is shown. */
export interface TurnActions {
  edit(content: string): void;
  retry(): void;
  resend(): void;
  remove(): void;
  react(messageId: string, reaction: "like" | "dislike" | null): void;
  openSource(citation: Citation): void;
}
