import type { ProviderEvent, ProviderOutcome, ToolName } from "../providers/contract.ts";
import { knownUsage } from "../quota/usage.ts";
import type { CancelReason, Terminal, ToolCounts, TurnErrorCode } from "./turn.ts";

/** Tool calls a message may start (turns.md §8). */
export interface ToolLimits {
  readonly webSearch: number;
  readonly codeInterpreter: number;
}

export type LimitedTool = "web_search" | "code_interpreter";

const limitCode = {
  web_search: "web_search_calls_exceeded",
  code_interpreter: "code_interpreter_calls_exceeded",
} as const satisfies Record<LimitedTool, TurnErrorCode>;

/**
 * What a running turn has received so far: the text, the tool counters and the time to the first
 * token. Pure bookkeeping; the conductor decides what to do with it.
 */
export class Answer {
  readonly #limits: ToolLimits;
  readonly #parts: string[] = [];
  readonly #requestedAt: number;
  #firstContentAt: number | null = null;
  #startedWeb = 0;
  #startedCode = 0;
  #doneWeb = 0;
  #doneCode = 0;
  #doneFile = 0;
  #exceeded: LimitedTool | null = null;

  constructor(limits: ToolLimits, requestedAt: number) {
    this.#limits = limits;
    this.#requestedAt = requestedAt;
  }

  /** Takes one event in; false when it must not be relayed because it exceeds a tool limit. */
  accept(event: ProviderEvent): boolean {
    if (event.type === "delta") {
      this.#firstContentAt ??= performance.now();
      if (event.kind === "text") this.#parts.push(event.content);
      return true;
    }
    if (event.type === "tool")
      return event.phase === "start" ? this.#start(event.name) : this.#done(event.name);
    return true;
  }

  get content(): string {
    return this.#parts.join("");
  }

  get exceeded(): LimitedTool | null {
    return this.#exceeded;
  }

  get toolCounts(): ToolCounts {
    return { webSearch: this.#doneWeb, codeInterpreter: this.#doneCode, fileSearch: this.#doneFile };
  }

  get hasContent(): boolean {
    return this.#firstContentAt !== null;
  }

  get latency(): { ttftMs?: number; totalMs: number } {
    const totalMs = Math.round(performance.now() - this.#requestedAt);
    return this.#firstContentAt === null
      ? { totalMs }
      : { ttftMs: Math.round(this.#firstContentAt - this.#requestedAt), totalMs };
  }

  #start(name: ToolName): boolean {
    if (name === "web_search") {
      this.#startedWeb += 1;
      if (this.#startedWeb > this.#limits.webSearch) this.#exceeded = name;
    } else if (name === "code_interpreter") {
      this.#startedCode += 1;
      if (this.#startedCode > this.#limits.codeInterpreter) this.#exceeded = name;
    }
    return this.#exceeded === null;
  }

  #done(name: ToolName): boolean {
    if (name === "web_search") this.#doneWeb += 1;
    else if (name === "code_interpreter") this.#doneCode += 1;
    else if (name === "file_search") this.#doneFile += 1;
    return true;
  }
}

/**
 * The end of a turn, from what the provider said, who asked to stop, and what was received
 * (turns.md §8–11). Precedence: tool limit, then cancellation, then the provider's outcome, so a
 * cancelled turn never becomes `completed` (§23.13).
 */
export const terminalOf = (
  outcome: ProviderOutcome,
  answer: Answer,
  cancelReason: CancelReason | null,
): Terminal => {
  const started = outcome.kind === "failed" || outcome.kind === "aborted" ? outcome.started : true;
  const common = {
    content: answer.content,
    started,
    toolCounts: answer.toolCounts,
    latency: answer.latency,
    errorCode: null,
    errorDetail: null,
    message: "",
    cancelReason,
    usage: null,
    responseId: null,
    citations: [],
    incomplete: null,
  } as const;
  if (answer.exceeded !== null) {
    const errorCode = limitCode[answer.exceeded];
    return { ...common, state: "failed", errorCode, message: `too many ${answer.exceeded} calls` };
  }
  if (cancelReason === "timeout") {
    return {
      ...common,
      state: "failed",
      errorCode: "provider_timeout",
      message: "the answer took too long",
    };
  }
  if (cancelReason !== null || outcome.kind === "aborted") return { ...common, state: "cancelled" };
  if (outcome.kind === "failed") {
    return {
      ...common,
      state: "failed",
      errorCode: outcome.code,
      errorDetail: outcome.detail,
      message: outcome.message,
      usage: knownUsage(outcome.usage),
      responseId: outcome.responseId ?? null,
    };
  }
  return {
    ...common,
    state: "completed",
    usage: knownUsage(outcome.usage),
    responseId: outcome.responseId ?? null,
    citations: outcome.citations,
    incomplete: outcome.kind === "incomplete" ? outcome.reason : null,
  };
};

/** The end of a turn that our own code broke off; in doubt its provider was called (turns.md §11.2). */
export const brokenTerminal = (error: unknown): Terminal => ({
  state: "failed",
  errorCode: "internal_error",
  errorDetail: error instanceof Error ? error.message : String(error),
  message: "internal error",
  cancelReason: null,
  content: "",
  usage: null,
  responseId: null,
  citations: [],
  incomplete: null,
  started: true,
  toolCounts: { webSearch: 0, codeInterpreter: 0, fileSearch: 0 },
  latency: {},
});
