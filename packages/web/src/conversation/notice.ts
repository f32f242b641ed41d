import { ApiError, isInProgress, type Period, type QuotaStatus, type UncertainTurn } from "@mini-chat/client";
import { resetTime } from "../lib/format.ts";
import { problemText } from "../lib/problem.ts";
import { isRunning, type TurnView } from "./turn-view.ts";

/** What stands above the composer until the next message. */
export interface Notice {
  readonly kind: "info" | "warning" | "error";
  readonly text: string;
  /** The message can be sent again, under the same id. */
  readonly resend?: true;
}

export const notices = {
  uncertain: "Connection lost. Message delivery is uncertain. You can resend.",
  inProgress: "A response is already in progress for this message. Please wait.",
  recovered: "Recovered a previously completed response.",
} as const;

export const uncertain: Notice = { kind: "warning", text: notices.uncertain, resend: true };

/** Of a turn that was not begun here and whose end was not seen. */
export const elsewhere = (reason: UncertainTurn["reason"]): Notice =>
  reason === "still_running" ? { kind: "warning", text: notices.inProgress } : uncertain;

/** Whether the turns of a chat show that a notice does not hold any more. */
export const isRefuted = ({ text, resend }: Notice, turns: readonly TurnView[]): boolean =>
  resend === true
    ? turns.at(-1)?.answer.state !== "uncertain"
    : text === notices.inProgress && !turns.some(isRunning);

const exhausted = (status: QuotaStatus | null): Period | undefined =>
  status?.tiers
    .find(({ tier }) => tier === "total")
    ?.periods.filter((period) => period.exhausted)
    .toSorted((one, other) => one.next_reset.localeCompare(other.next_reset))
    .at(-1);

const quotaText = (error: ApiError, status: QuotaStatus | null): string => {
  const { quota_scope: scope } = error.problem;
  if (scope !== undefined && scope !== "tokens") return problemText(error);
  const period = exhausted(status);
  return period === undefined
    ? "Your quota does not allow this message."
    : `Your ${period.period} quota is used up. It starts afresh ${resetTime(period.next_reset)}.`;
};

/** What to say about a send, retry or edit that was refused. */
export const noticeOf = (error: unknown, status: QuotaStatus | null): Notice => {
  if (isInProgress(error)) return { kind: "warning", text: notices.inProgress };
  if (error instanceof ApiError && error.code === "quota_exceeded") {
    return { kind: "warning", text: quotaText(error, status) };
  }
  return { kind: "error", text: problemText(error) };
};

const failures: Readonly<Record<string, string>> = {
  provider_timeout: "The model took too long.",
  rate_limited: "The model is busy right now.",
  web_search_calls_exceeded: "The answer wanted to search the web too often.",
  code_interpreter_calls_exceeded: "The answer wanted to run code too often.",
  context_length_exceeded: "The chat has grown too long for this model.",
  orphan_timeout: "The answer was lost on the server.",
};

export const failureText = (code: string | undefined): string =>
  `${failures[code ?? ""] ?? "The answer could not be finished."} You can try again.`;

const reasons: Readonly<Record<string, string>> = {
  premium_quota_exhausted: "your premium quota is used up",
  force_standard_tier: "premium models are switched off for now",
  disable_premium_tier: "premium models are switched off for now",
  model_disabled: "the chosen model is switched off for now",
};

/** Says that another model answered than the one that was chosen, and why. */
export const downgradeText = (model: string, reason: string | undefined): string =>
  `Answered by ${model}: ${reasons[reason ?? ""] ?? "the chosen model is not available"}.`;
