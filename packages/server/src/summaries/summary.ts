import type { Position } from "../context/position.ts";

/** The older part of a chat in few words: committed state, at most one per chat (context.md §6.1). */
export interface ThreadSummary {
  readonly id: string;
  readonly text: string;
  /** Tokens of the text. */
  readonly tokenEstimate: number;
  /** The last message it covers. */
  readonly frontier: Position;
}
