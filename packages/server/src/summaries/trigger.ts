import { comparePositions, type Position } from "../context/position.ts";

/** The part of the configuration that decides when a summary is due. */
export interface SummaryRules {
  /** `thread_summary_worker.compression_threshold_pct`. */
  readonly thresholdPct: number;
  /** Newest messages that stay outside of a summary. */
  readonly keepRecent: number;
}

/** A reason to look for something to summarise, and how much of the end of the chat to leave alone. */
export interface SummaryTrigger {
  /** `truncated` fires always, `threshold` only in a chat without a summary. */
  readonly reason: "truncated" | "threshold";
  readonly keepRecent: number;
}

/**
 * Whether a completed turn may fire (context.md §6.2), by what its model was given: pure, so that
 * nothing is read when it cannot. Null when it does not.
 */
export const summaryTrigger = (
  { thresholdPct, keepRecent }: SummaryRules,
  model: { readonly contextWindow: number },
  context: {
    readonly messagesTruncated: boolean;
    readonly estimatedTokens: number;
    readonly maxOutputTokens: number;
  },
): SummaryTrigger | null => {
  if (context.messagesTruncated) return { reason: "truncated", keepRecent };
  const budget = model.contextWindow - context.maxOutputTokens;
  if (budget <= 0) return null;
  const isFull = context.estimatedTokens >= Math.floor((budget * thresholdPct) / 100);
  return isFull ? { reason: "threshold", keepRecent } : null;
};

/** A message as the choice of the target looks at it. */
export interface TargetCandidate extends Position {
  readonly requestId: string | null;
}

/** Messages to read, newest first, for `targetOf` to decide on: a turn has two. */
export const targetDepth = (keepRecent: number): number => keepRecent + 2;

/**
 * The last message a summary is to cover: the newest that leaves `keepRecent` messages outside and
 * parts no turn. Null when that is nothing beyond the frontier (context.md §6.2). `newest` holds the
 * newest `targetDepth` messages of the chat, newest first.
 */
export const targetOf = (
  newest: readonly TargetCandidate[],
  keepRecent: number,
  frontier: Position | null,
): Position | null => {
  const target = newest.find(
    (message, at) =>
      at >= keepRecent && (message.requestId === null || message.requestId !== newest[at - 1]?.requestId),
  );
  if (target === undefined) return null;
  return frontier !== null && comparePositions(target, frontier) <= 0 ? null : target;
};
