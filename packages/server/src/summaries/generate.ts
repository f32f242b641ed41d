import type { TenantId, UserId } from "../auth/actor.ts";
import type { RangeMessage } from "../messages/summary-store.ts";
import type { ModelEntry } from "../policy/snapshot.ts";
import {
  type LlmProvider,
  ProviderError,
  type ProviderRequest,
  type ProviderTarget,
  type ProviderUsage,
} from "../providers/contract.ts";
import { isAbsurdUsage, knownUsage } from "../quota/usage.ts";
import { readSummary } from "./output.ts";
import { inputRoom, paragraphsOf, promptTokens, type SummaryPrompt, summaryPrompt } from "./prompt.ts";

/** What the calls of one task are made with. */
export interface SummaryCall {
  readonly adapter: LlmProvider;
  readonly target: ProviderTarget;
  readonly model: ModelEntry;
  readonly instructions: string;
  readonly thread: { readonly tenantId: TenantId; readonly userId: UserId; readonly chatId: string };
  /** The same on every delivery of the task. */
  readonly systemRequestId: string;
  /** `thread_summary_worker.message_content_limit`. */
  readonly maxChars: number;
  readonly signal: AbortSignal;
}

export interface GeneratedSummary {
  readonly text: string;
  /** Of all calls together; null when the provider reported none that can be. */
  readonly usage: ProviderUsage | null;
  /** Some call came with counts that cannot be (quota.md §1.3). */
  readonly absurdUsage: boolean;
  readonly calls: number;
  /** Messages no call had room for, the oldest. */
  readonly left: number;
}

/** The model wrote nothing that could be kept. */
export class EmptySummaryError extends Error {
  override name = "EmptySummaryError";
}

/** The prompt is too long for the model, and nothing is left to leave out. */
export class PromptTooLongError extends Error {
  override name = "PromptTooLongError";
}

// A thread that grew while summaries failed, or were off, may be longer than any model reads at once.
const maxParts = 4;
const maxShortened = 2;
const minKept = 2;

/**
 * Condenses the messages, oldest first, into `previous`. A thread too long for one call is folded part
 * by part, each into the summary of those before it; what is longer than four parts loses its oldest
 * messages. Throws `ProviderError`, `EmptySummaryError`, `PromptTooLongError`.
 */
export const generateSummary = async (
  call: SummaryCall,
  messages: readonly RangeMessage[],
  previous: string | null,
): Promise<GeneratedSummary> => {
  const parts = partsOf(call, paragraphsOf(messages, call.maxChars), previous);
  const taken = parts.slice(-maxParts);
  const budget: Budget = { shortened: 0, left: 0, calls: 0 };
  for (const part of parts.slice(0, -maxParts)) budget.left += part.length;
  let text = previous;
  let usage: ProviderUsage | null = null;
  let absurdUsage = false;
  for (const part of taken) {
    const answer = await condense(call, part, text, budget).catch((error) => {
      throw part === taken[0] ? error : afterPaidCalls(error);
    });
    text = answer.text;
    usage = addUsage(usage, knownUsage(answer.usage));
    absurdUsage ||= isAbsurdUsage(answer.usage);
  }
  if (text === null || taken.length === 0) throw new EmptySummaryError("there is nothing to summarise");
  return { text, usage, absurdUsage, calls: budget.calls, left: budget.left };
};

/** Calls before it were paid, and are made again with the next delivery: it counts as an attempt even if withheld. */
const afterPaidCalls = (error: unknown): unknown => {
  if (!(error instanceof ProviderError) || !error.withheld) return error;
  const { code, message, detail, started } = error;
  return new ProviderError(code, message, { detail, started, cause: error });
};

interface Budget {
  shortened: number;
  left: number;
  calls: number;
}

/** Cuts the thread where a prompt is full. A single message longer than that is tried all the same. */
const partsOf = (call: SummaryCall, paragraphs: readonly string[], previous: string | null): string[][] => {
  const { model, instructions } = call;
  const { bytesPerTokenConservative: bytesPerToken, safetyMarginPct } = model.estimationBudgets;
  const room = inputRoom(model) - promptTokens(summaryPrompt(instructions, previous ?? "", []), model);
  // The summary of one part is input of the next, and may be longer than the one before.
  const carried = Math.min(model.maxOutputTokens, Math.floor(room / 4));
  const roomBytes = ((room - carried) * bytesPerToken * 100) / (100 + safetyMarginPct);
  const parts: string[][] = [];
  let filled = Number.POSITIVE_INFINITY;
  for (const paragraph of paragraphs) {
    const bytes = Buffer.byteLength(paragraph) + 2;
    const part = parts.at(-1);
    if (part === undefined || (filled + bytes > roomBytes && part.length >= minKept)) {
      parts.push([paragraph]);
      filled = bytes;
    } else {
      part.push(paragraph);
      filled += bytes;
    }
  }
  return parts;
};

/** One part in one call; shortened at its old end when the model finds it too long (step 8). */
const condense = async (
  call: SummaryCall,
  part: readonly string[],
  previous: string | null,
  budget: Budget,
): Promise<{ text: string; usage: ProviderUsage | null }> => {
  let kept = part;
  for (;;) {
    try {
      budget.calls += 1;
      const request = requestOf(call, summaryPrompt(call.instructions, previous, kept));
      const { content, usage } = await call.adapter.complete(request, call.target, call.signal);
      const text = readSummary(content);
      if (text === null) throw new EmptySummaryError("the model wrote no summary");
      return { text, usage };
    } catch (error) {
      if (!isTooLong(error)) throw error;
      if (budget.shortened === maxShortened || kept.length <= minKept) {
        // Without its cause: a log line must not quote what a provider says of a prompt.
        throw new PromptTooLongError("the model cannot read what is to be summarised");
      }
      budget.shortened += 1;
      const drop = Math.min(Math.max(2, Math.ceil(kept.length / 5)), kept.length - minKept);
      budget.left += drop;
      kept = kept.slice(drop);
    }
  }
};

const requestOf = (call: SummaryCall, { instructions, text }: SummaryPrompt): ProviderRequest => {
  const { model, thread } = call;
  const { tenantId, userId, chatId } = thread;
  return {
    model: model.providerModelId,
    systemInstructions: instructions,
    messages: [{ role: "user", content: [{ text }] }],
    maxOutputTokens: model.maxOutputTokens,
    tools: [],
    userIdentity: { tenantId, userId },
    metadata: { tenantId, userId, chatId, requestType: "summary", features: [] },
    params: model.generalConfig.apiParams,
    correlationId: call.systemRequestId,
  };
};

// providers.md §7.1: by code or by text.
const tooLong = /context_length_exceeded|maximum context length|token limit|too many tokens/i;

const isTooLong = (error: unknown): boolean =>
  error instanceof ProviderError && tooLong.test(`${error.detail} ${error.message}`);

const addUsage = (sum: ProviderUsage | null, more: ProviderUsage | null): ProviderUsage | null =>
  sum === null || more === null
    ? (sum ?? more)
    : {
        inputTokens: sum.inputTokens + more.inputTokens,
        outputTokens: sum.outputTokens + more.outputTokens,
        cacheReadInputTokens: sum.cacheReadInputTokens + more.cacheReadInputTokens,
        cacheWriteInputTokens: sum.cacheWriteInputTokens + more.cacheWriteInputTokens,
        reasoningTokens: sum.reasoningTokens + more.reasoningTokens,
      };
