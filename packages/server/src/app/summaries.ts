import type { Handlers } from "../outbox/message.ts";
import { beginningOf } from "../retrieval/beginning.ts";
import { documentSummaryHandler } from "../summaries/document.ts";
import { threadSummaryHandler } from "../summaries/handle.ts";
import { modelStorage } from "./model-storage.ts";
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

/** What serves the queue of document summaries; switched off, its messages wait (attachments.md §15). */
export const documentHandler = (
  parts: Pick<Parts, "config" | "db" | "policy" | "registry" | "storage" | "outbox" | "metrics" | "logger">,
): Handlers["doc_summary"] => {
  const { registry, config, db } = parts;
  if (!config.doc_summary.enabled) return "keep_waiting";
  return documentSummaryHandler({
    ...parts,
    resolveTarget: (providerId, tenantId) => registry.resolve(providerId, tenantId),
    adapterOf: (target) => registry.adapter(target),
    storageOf: (providerId) => modelStorage(parts, providerId),
    beginningOf: ({ tenantId, chatId, id }, maxBytes) => beginningOf(db, tenantId, chatId, id, maxBytes),
  });
};
