import { stringifyJson } from "../lib/json.ts";
import type { ToolName } from "../providers/contract.ts";

/** One item of the `citations` event; its further fields are those of context.md §8. */
export interface CitationItem {
  readonly source: "file" | "web";
  readonly attachment_id?: string;
}

/** Where a bucket stands after the turn (turns.md §5.2). */
export interface QuotaWarningItem {
  readonly tier: "premium" | "total";
  readonly period: "daily" | "monthly";
  readonly remaining_percentage: number;
  readonly warning: boolean;
  readonly exhausted: boolean;
  readonly next_reset?: string;
}

/** An event of a stream; of a resumable turn with its place in the log, once it has one (turns.md §16.2). */
export type StreamEvent = Payload & { readonly seq?: number };

/** The events with their payloads exactly as on the wire (turns.md §5.2). */
type Payload =
  | {
      readonly event: "stream_started";
      readonly data: {
        readonly request_id: string;
        readonly message_id: string;
        readonly is_new_turn: boolean;
        readonly thread_summary_applied?: { readonly token_estimate: number };
      };
    }
  | { readonly event: "ping"; readonly data: Readonly<Record<string, never>> }
  | {
      readonly event: "delta";
      readonly data: { readonly type: "text" | "reasoning"; readonly content: string };
    }
  | {
      readonly event: "tool";
      readonly data: {
        readonly phase: "start" | "done";
        readonly name: ToolName;
        readonly details: Readonly<Record<string, unknown>>;
      };
    }
  | { readonly event: "citations"; readonly data: { readonly items: readonly CitationItem[] } }
  | {
      readonly event: "done";
      readonly data: {
        readonly usage: {
          readonly input_tokens: number | bigint;
          readonly output_tokens: number | bigint;
        } | null;
        readonly effective_model: string;
        readonly selected_model: string;
        readonly quota_decision: "allow" | "downgrade";
        readonly downgrade_from?: string;
        readonly downgrade_reason?: string;
        readonly quota_warnings?: readonly QuotaWarningItem[];
      };
    }
  | { readonly event: "error"; readonly data: { readonly code: string; readonly message: string } };

export type StreamEventName = StreamEvent["event"];

/** Where a stream is (turns.md §5.3). */
export type StreamPhase = "idle" | "started" | "pinging" | "streaming" | "citations" | "terminal";

const contentAndEnd = {
  delta: "streaming",
  tool: "streaming",
  citations: "citations",
  done: "terminal",
  error: "terminal",
} as const satisfies Partial<Record<StreamEventName, StreamPhase>>;

const transitions: Readonly<Record<StreamPhase, Partial<Record<StreamEventName, StreamPhase>>>> = {
  idle: { stream_started: "started", done: "terminal", error: "terminal" },
  started: { ping: "pinging", ...contentAndEnd },
  pinging: { ping: "pinging", ...contentAndEnd },
  streaming: contentAndEnd,
  citations: { done: "terminal", error: "terminal" },
  terminal: {},
};

/** The phase after this event; null when it does not fit and must not be sent. */
export const nextPhase = (phase: StreamPhase, event: StreamEventName): StreamPhase | null =>
  transitions[phase][event] ?? null;

/** Follows one stream: `stream_started ping* (delta | tool)* citations? (done | error)`. */
export class StreamGrammar {
  #phase: StreamPhase = "idle";
  #hasContent = false;

  /** Advances, or returns false for an event that must be dropped. An empty `citations` never fits. */
  accept(event: StreamEvent): boolean {
    if (event.event === "citations" && event.data.items.length === 0) return false;
    const next = nextPhase(this.#phase, event.event);
    if (next === null) return false;
    this.#phase = next;
    this.#hasContent ||= next === "streaming";
    return true;
  }

  get phase(): StreamPhase {
    return this.#phase;
  }

  /** Whether a `ping` may still be sent. */
  get acceptsPing(): boolean {
    return this.#phase === "started" || this.#phase === "pinging";
  }

  /** Whether a delta or tool event was accepted. */
  get hasContent(): boolean {
    return this.#hasContent;
  }

  /** Whether the stream has ended. */
  get ended(): boolean {
    return this.#phase === "terminal";
  }
}

/**
 * An event as its SSE frame: `event:` line, one `data:` line, blank line (api.md §6). JSON never
 * contains a bare line break, so one line is enough. An event of a resumable turn's log has an `id:` line.
 */
export const encodeEvent = (event: StreamEvent): string => {
  const id = event.seq === undefined ? "" : `id: ${event.seq}\n`;
  if (event.event === "delta") {
    // Nearly all events are deltas; only their text needs JSON.
    return `${id}event: delta\ndata: {"type":"${event.data.type}","content":${JSON.stringify(event.data.content)}}\n\n`;
  }
  return `${id}event: ${event.event}\ndata: ${stringifyJson(event.data)}\n\n`;
};
