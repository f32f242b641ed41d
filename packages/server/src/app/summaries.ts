import type { Handlers } from "../outbox/message.ts";
import { threadSummaryHandler } from "../summaries/handle.ts";
import type { Parts } from "./turn-deps.ts";

/** What serves the queue of thread summaries; switched off, its messages wait (ops.md §2.4). */
export const summaryHandler = (
  parts: Pick<Parts, "config" | "db" | "policy" | "registry" | "outbox" | "metrics" | "logger">,
): Handlers["thread_summary"] => {
  const { registry, config } = parts;
  const { thread_summary_worker: worker } = config;
  if (!worker.enabled) return "keep_waiting";
  return threadSummaryHandler({
    ...parts,
    resolveTarget: (providerId, tenantId) => registry.resolve(providerId, tenantId),
    adapterOf: (target) => registry.adapter(target),
    settings: {
      modelId: worker.summary_model_id,
      instructions: worker.summary_system_prompt,
      maxChars: worker.message_content_limit,
      leaseMs: worker.claim_timeout_secs * 1_000,
    },
  });
};
