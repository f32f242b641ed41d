import type { Citation } from "@mini-chat/client";
import type { Store } from "../lib/store.ts";
import type { Edit } from "./turn-view.ts";

/** What can be done with a turn from its rows; the same functions as long as a conversation is shown. */
export interface TurnActions {
  /** The latest message while it is written anew. */
  readonly editing: Store<Edit | null>;
  edit(content: string): void;
  retry(): void;
  resend(): void;
  remove(): void;
  react(messageId: string, reaction: "like" | "dislike" | null): void;
  openSource(citation: Citation): void;
}
