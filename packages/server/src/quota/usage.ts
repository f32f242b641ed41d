import type { ProviderUsage } from "../providers/contract.ts";
import { isKnownUsage, isValidUsage } from "./settle.ts";

const counter = (tokens: number): number => (Number.isSafeInteger(tokens) && tokens > 0 ? tokens : 0);

/**
 * What a turn or a system task is billed, stored and shown with: null unless the provider reported
 * something that can be (quota.md §7.1). Counters beside input and output are telemetry and lose what is
 * impossible.
 */
export const knownUsage = (usage: ProviderUsage | null): ProviderUsage | null =>
  usage !== null && isKnownUsage(usage)
    ? {
        inputTokens: usage.inputTokens,
        outputTokens: usage.outputTokens,
        cacheReadInputTokens: counter(usage.cacheReadInputTokens),
        cacheWriteInputTokens: counter(usage.cacheWriteInputTokens),
        reasoningTokens: counter(usage.reasoningTokens),
      }
    : null;

/** Negative, fractional or absurd counts: unknown usage that somebody should hear of (quota.md §1.3). */
export const isAbsurdUsage = (usage: ProviderUsage | null): boolean => usage !== null && !isValidUsage(usage);
