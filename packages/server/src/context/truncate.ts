import { type EstimationBudgets, type OfferedTools, surchargeTokens } from "../quota/estimate.ts";
import { itemTokens } from "./estimate.ts";

/** A stored message as far as assembly looks at it. */
export interface ContextMessage {
  readonly role: "user" | "assistant" | "system";
  readonly content: string;
}

/** A message of the dialogue; `system` rows are never sent (context.md §2). */
export interface DialogueMessage extends ContextMessage {
  readonly role: "user" | "assistant";
}

/** What bounds one request, all of the effective model (context.md §4.2). */
export interface Limits {
  readonly contextWindow: number;
  readonly maxInputTokens: number;
  readonly maxOutputTokensApplied: number;
  readonly offered: OfferedTools;
  readonly budgets: EstimationBudgets;
}

/** The texts that want to be sent, each as it would be sent. */
export interface Candidates {
  /** System prompt and guards; `""` is none. */
  readonly instructions: string;
  readonly userText: string;
  readonly images: number;
  /** What excerpts of documents, found later, would like to have; 0 when none are looked for. */
  readonly excerptTokens: number;
  /** With its preamble. */
  readonly summary: string | null;
  /** Newest first. */
  readonly recent: readonly DialogueMessage[];
  /** Older messages lie outside of `recent`. */
  readonly olderExist: boolean;
  /** Newest document first. */
  readonly docLines: readonly string[];
}

/** What is sent of the candidates; numbers are tokens. */
export type Fit =
  | {
      readonly kind: "fits";
      readonly estimatedContextTokens: number;
      readonly keepsSummary: boolean;
      /** Newest first, a head of the candidates. */
      readonly recent: readonly DialogueMessage[];
      readonly docLines: readonly string[];
      /** What excerpts may take: part of the estimate. */
      readonly excerptTokens: number;
    }
  | { readonly kind: "too_big"; readonly requiredTokens: number; readonly availableTokens: number };

/**
 * Spends the budget in the order of context.md §4.3: instructions and the current message are
 * mandatory, then summary, recent messages from the newest, document summaries. Excerpts come behind the
 * summary: half of what is left is theirs before any message is taken, and what remains in the end.
 */
export const fitContext = (candidates: Candidates, limits: Limits): Fit => {
  const { budgets, contextWindow } = limits;
  const surcharges = surchargeTokens(limits.offered, budgets);
  const deductions = limits.maxOutputTokensApplied + budgets.fixedOverheadTokens + surcharges;
  if (deductions >= contextWindow) {
    return { kind: "too_big", requiredTokens: deductions, availableTokens: contextWindow };
  }
  const available = contextWindow - deductions;
  const mandatory = mandatoryTokens(candidates, budgets);
  if (mandatory > available) {
    return { kind: "too_big", requiredTokens: mandatory, availableTokens: available };
  }
  // History must not make the provider refuse what would be accepted without it (§4.2).
  const ceiling = Math.min(available, limits.maxInputTokens - surcharges);
  let used = mandatory;
  const take = (tokens: number): boolean => {
    if (used + tokens > ceiling) return false;
    used += tokens;
    return true;
  };
  const keepsSummary = candidates.summary !== null && take(itemTokens(candidates.summary, budgets));
  const promised = Math.min(candidates.excerptTokens, Math.max(0, Math.floor((ceiling - used) / 2)));
  used += promised;
  const recent = newestThatFit(candidates.recent, budgets, take);
  const olderMissing = candidates.olderExist || recent.length < candidates.recent.length;
  // What the summary covers is no missing question.
  if (olderMissing || !keepsSummary) used -= dropAnswersWithoutQuestion(recent, budgets);
  const docLines = candidates.docLines.filter((line) => take(itemTokens(line, budgets)));
  const excerptTokens = Math.min(candidates.excerptTokens, promised + Math.max(0, ceiling - used));
  const estimatedContextTokens = used - promised + excerptTokens;
  return { kind: "fits", estimatedContextTokens, keepsSummary, recent, docLines, excerptTokens };
};

const mandatoryTokens = (candidates: Candidates, budgets: EstimationBudgets): number =>
  (candidates.instructions === "" ? 0 : itemTokens(candidates.instructions, budgets)) +
  itemTokens(candidates.userText, budgets) +
  candidates.images * budgets.imageTokenBudget;

const newestThatFit = (
  newestFirst: readonly DialogueMessage[],
  budgets: EstimationBudgets,
  take: (tokens: number) => boolean,
): DialogueMessage[] => {
  const end = newestFirst.findIndex((message) => !take(itemTokens(message.content, budgets)));
  return newestFirst.slice(0, end < 0 ? undefined : end);
};

/** Takes the oldest messages away until the first one sent is a question (§3); returns their tokens. */
const dropAnswersWithoutQuestion = (kept: DialogueMessage[], budgets: EstimationBudgets): number => {
  const questionAt = kept.findLastIndex((message) => message.role === "user");
  return kept
    .splice(questionAt + 1)
    .reduce((tokens, answer) => tokens + itemTokens(answer.content, budgets), 0);
};
