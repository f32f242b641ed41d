import type { TenantId } from "../auth/actor.ts";
import type { Citation } from "../context/citations.ts";
import type { IncompleteReason, ProviderUsage } from "../providers/contract.ts";
import type { SummaryTrigger } from "../summaries/trigger.ts";
import type { LoggedEvent } from "./log-store.ts";
import type { QuotaDecision } from "./running.ts";
import type { CancelReason, TerminalState, ToolCounts } from "./turn.ts";

/** What the audit event tells beyond the turn's own columns. */
export interface AuditFacts {
  readonly traceId?: string;
  readonly latencyMs: { readonly ttftMs?: number; readonly totalMs?: number };
  /** Null when it is not known any more (the watchdog). */
  readonly decision: QuotaDecision | null;
  readonly attachments: readonly { readonly id: string; readonly kind: "document" | "image" }[];
  readonly prompt?: string;
  readonly response?: string;
}

/** How a turn is to end: the input of transaction 2, for the stream and the watchdog alike. */
export interface Ending {
  readonly turnId: string;
  readonly tenantId: TenantId;
  readonly state: TerminalState;
  readonly errorCode: string | null;
  /** Kept unless a request to cancel has left its own. */
  readonly cancelReason: CancelReason | null;
  readonly errorDetail: string | null;
  readonly responseId: string | null;
  readonly usage: ProviderUsage | null;
  readonly incomplete: IncompleteReason | null;
  readonly started: boolean;
  /** As the stream counted them; null: the persisted counters of the row stand for themselves. */
  readonly toolCounts: ToolCounts | null;
  /** The assistant message to store, if any. */
  readonly answer: {
    readonly id: string;
    readonly content: string;
    readonly model: string;
    readonly citations: readonly Citation[];
  } | null;
  readonly audit: AuditFacts;
  /** Whether a summary of the thread may be due (context.md §6.2); null unless completed. */
  readonly summary: SummaryTrigger | null;
  /** What closes the log of a resumable turn (turns.md §16.2); null for every other turn. */
  readonly log: { readonly writer: "owner" | "watchdog"; readonly events: readonly LoggedEvent[] } | null;
}
