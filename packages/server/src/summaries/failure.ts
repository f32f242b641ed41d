import type { Verdict } from "../outbox/message.ts";
import { errorText } from "../outbox/settle.ts";
import { ProviderError } from "../providers/contract.ts";
import type { Logger } from "../telemetry/log.ts";
import type { Metrics } from "../telemetry/metrics.ts";

/** How soon a call is tried again that our own caps or the open breaker kept back. */
const withheldMs = 5_000;

export interface SummaryFailure {
  /** For the log. */
  readonly facts: object;
  readonly verdict: Verdict & { readonly kind: "retry" };
}

/**
 * What is told of a summary that failed. The words of a provider may quote what it was to summarise: its
 * code tells enough. A call that was never sent is no attempt.
 */
export const summaryFailure = (error: unknown): SummaryFailure => {
  if (!(error instanceof ProviderError)) {
    return { facts: { err: error }, verdict: { kind: "retry", error: errorText(error) } };
  }
  const text = `provider: ${error.code}`;
  return {
    facts: { error_code: error.code },
    verdict: error.withheld
      ? { kind: "retry", error: text, afterMs: withheldMs, counted: false }
      : { kind: "retry", error: text },
  };
};

/** Somebody should hear of a provider whose counts cannot be; the summary is kept all the same (quota.md §1.3). */
export const reportAbsurdUsage = (
  { metrics, logger }: { readonly metrics: Metrics; readonly logger: Logger },
  facts: object,
): void => {
  metrics.count("credits_overflow");
  logger.critical(facts, "the provider reported impossible usage for a summary; it counts as unknown");
};
