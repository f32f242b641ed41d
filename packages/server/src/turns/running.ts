import type { Actor } from "../auth/actor.ts";
import type { CitableFile } from "../context/citations.ts";
import type { ModelEntry } from "../policy/snapshot.ts";
import type { ProviderRequest, ProviderTarget } from "../providers/contract.ts";
import type { ToolLimits } from "./answer.ts";
import type { DowngradeReason } from "./turn.ts";

/** How the credit cascade decided, as the `done` event and the audit event report it. */
export type QuotaDecision =
  | { readonly kind: "allow" }
  | {
      readonly kind: "downgrade";
      readonly from: string;
      readonly fromTier: "standard" | "premium";
      readonly reason: DowngradeReason;
    };

/** What the model was given, as far as it matters after the call; sizes are estimated tokens. */
export interface TurnContext {
  readonly estimatedTokens: number;
  /** A message of the dialogue was not sent. */
  readonly messagesTruncated: boolean;
  /** Of the thread summary that was sent; null when none was. */
  readonly summaryTokens: number | null;
  /** Kept free for the answer. */
  readonly maxOutputTokens: number;
}

/** A search in documents that lie in our own database (docs/retrieval.md). */
export interface PassageSearch {
  readonly question: string;
  /** Room for the passages as they are rendered. */
  readonly maxBytes: number;
  readonly maxResults: number;
}

/**
 * A turn whose preflight transaction has committed: the question is stored, the reserve is held, and
 * everything the provider call and the finalization need is decided.
 */
export interface RunningTurn {
  readonly id: string;
  readonly actor: Actor;
  readonly chatId: string;
  readonly requestId: string;
  /** Of the answer to come; no row exists before finalization. */
  readonly messageId: string;
  readonly selectedModel: string;
  readonly model: ModelEntry;
  readonly decision: QuotaDecision;
  readonly target: ProviderTarget;
  readonly request: ProviderRequest;
  readonly context: TurnContext;
  readonly toolLimits: ToolLimits;
  readonly onDisconnect: "cancel" | "continue";
  /** The question, for an audit event that includes content. */
  readonly prompt: string;
  readonly attachments: readonly { readonly id: string; readonly kind: "document" | "image" }[];
  /** The chat's documents as they were when the context was assembled, by provider file id. */
  readonly files: ReadonlyMap<string, CitableFile>;
  /** What we look for in the chat's documents before the model is asked; null where that is not ours to do. */
  readonly search: PassageSearch | null;
  /** W3C trace id, captured before the transaction (turns.md §20). */
  readonly traceId: string;
  /** `performance.now()` when the request arrived. */
  readonly receivedAt: number;
}
