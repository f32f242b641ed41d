import {
  findUnsummarized,
  setDocumentSummary,
  type UnsummarizedDocument,
} from "../attachments/doc-summary-store.ts";
import type { AttachmentKey } from "../attachments/upload-store.ts";
import { asTenantId, type TenantId, type UserId } from "../auth/actor.ts";
import { findOwnerForTenant } from "../chats/store.ts";
import type { Db } from "../db/pool.ts";
import { inTransaction } from "../db/tx.ts";
import type { OutboxEnqueuer } from "../outbox/enqueuer.ts";
import { done, type Message, type QueueHandler, type Verdict } from "../outbox/message.ts";
import { perMessage } from "../outbox/run.ts";
import { readDocSummaryTask } from "../outbox/summary-task.ts";
import { unreadableVerdict } from "../outbox/unreadable.ts";
import type { PolicyService } from "../policy/service.ts";
import type { ModelEntry, PolicySnapshot } from "../policy/snapshot.ts";
import type { LlmProvider, ProviderPart, ProviderRequest, ProviderTarget } from "../providers/contract.ts";
import { isAbsurdUsage, knownUsage } from "../quota/usage.ts";
import type { Logger } from "../telemetry/log.ts";
import type { Metrics } from "../telemetry/metrics.ts";
import { systemUsageEvent } from "../usage/event.ts";
import { documentInstructions, documentRequest, readDocumentSummary } from "./document-text.ts";
import { reportAbsurdUsage, summaryFailure } from "./failure.ts";
import { cheapestFirst } from "./model.ts";

export interface DocumentSummaryDeps {
  readonly db: Db;
  readonly outbox: Pick<OutboxEnqueuer, "enqueueUsageEvent" | "flush">;
  readonly policy: Pick<PolicyService, "resolve">;
  readonly resolveTarget: (providerId: string, tenantId: TenantId) => ProviderTarget | null;
  readonly adapterOf: (target: ProviderTarget) => LlmProvider;
  /** Where the files of a provider's models lie. */
  readonly storageOf: (providerId: string) => { readonly backend: string; readonly local: boolean } | null;
  /** The beginning of a document in our own database, at most so many bytes; null when it has no text there. */
  readonly beginningOf: (document: AttachmentKey, maxBytes: number) => Promise<string | null>;
  readonly metrics: Metrics;
  readonly logger: Logger;
}

interface Task extends AttachmentKey {
  readonly systemRequestId: string;
}

// The lease of the queue is 120 s (outbox.md §3); one call takes at most `egress.non_streaming_timeout_secs`.
const options = { concurrency: 4, maxMs: 110_000, reserveMs: 5_000 };

const maxOutputTokens = 1_000;

/** A page or two tells what a document is about. */
const beginningBytes = 12_000;

/**
 * The handler of the document queue (context.md §7): one call with the file as its input and no transaction
 * open, then the summary if the document still wants one. A failure leaves the document as it was.
 */
export const documentSummaryHandler = (deps: DocumentSummaryDeps): QueueHandler =>
  perMessage((message, signal) => handle(deps, message, signal), options);

const handle = async (deps: DocumentSummaryDeps, message: Message, signal: AbortSignal): Promise<Verdict> => {
  const task = readTask(message);
  if ("verdict" in task) return task.verdict;
  try {
    return await summarize(deps, task, signal);
  } catch (error) {
    const { facts, verdict } = summaryFailure(error);
    if (verdict.counted !== false) deps.metrics.count("attachment_summary", { result: "failed" });
    deps.logger.warn({ ...ids(task), ...facts }, "document summary failed");
    return verdict;
  }
};

const readTask = (message: Message): Task | { readonly verdict: Verdict } => {
  try {
    const payload = readDocSummaryTask(message.payload);
    return {
      tenantId: asTenantId(payload.tenant_id),
      chatId: payload.chat_id,
      id: payload.attachment_id,
      systemRequestId: payload.system_request_id,
    };
  } catch (error) {
    return { verdict: unreadableVerdict(error, message) };
  }
};

const summarize = async (deps: DocumentSummaryDeps, task: Task, signal: AbortSignal): Promise<Verdict> => {
  const document = await findUnsummarized(deps.db, task);
  const userId = await findOwnerForTenant(deps.db, task.tenantId, task.chatId);
  if (document === null || userId === null) {
    deps.metrics.count("attachment_summary", { result: "skipped" });
    return { kind: "already_terminal" };
  }
  const { model, target, input } = await inputFor(deps, task, document, userId);
  const request = requestOf(task, userId, model, input);
  const { content, usage } = await deps.adapterOf(target).complete(request, target, signal);
  if (isAbsurdUsage(usage)) reportAbsurdUsage(deps, ids(task));
  // Its time is over, and the next delivery may have begun.
  signal.throwIfAborted();
  const text = readDocumentSummary(content, document.providerFileId);
  if (text === null) throw new Error("the model wrote no summary");
  const stored = await inTransaction(deps.db, async (tx) => {
    const at = await setDocumentSummary(tx, task, { text, model: model.id });
    if (at === null) return false;
    const { tenantId, chatId, systemRequestId } = task;
    await deps.outbox.enqueueUsageEvent(
      tx,
      systemUsageEvent({
        tenantId,
        chatId,
        systemRequestId,
        systemTaskType: "doc_summary_generation",
        model: model.id,
        selectedModel: model.id,
        usage: knownUsage(usage),
        timestamp: at,
      }),
    );
    tx.afterCommit(deps.outbox.flush);
    return true;
  });
  deps.metrics.count("attachment_summary", { result: stored ? "ok" : "skipped" });
  deps.logger.info({ ...ids(task), model: model.id, stored }, "document summary");
  return done;
};

interface Input {
  readonly model: ModelEntry;
  readonly target: ProviderTarget;
  /** The document, as the model is given it. */
  readonly input: ProviderPart;
}

/** Nobody can read the document now: no model of its storage is to be found, or its text is gone. */
class NotReadableError extends Error {
  override name = "NotReadableError";
}

const inputFor = async (
  deps: DocumentSummaryDeps,
  task: Task,
  document: UnsummarizedDocument,
  userId: UserId,
): Promise<Input> => {
  const { snapshot } = await deps.policy.resolve({ tenantId: task.tenantId, userId });
  for (const model of readersOf(deps, snapshot, document)) {
    const target = deps.resolveTarget(model.providerId, task.tenantId);
    if (target === null) continue;
    if (deps.storageOf(model.providerId)?.local !== true) {
      return { model, target, input: { fileId: document.providerFileId } };
    }
    const text = await deps.beginningOf(task, beginningBytes);
    if (text === null) throw new NotReadableError("the document has no text");
    return { model, target, input: { text: `<document>\n${text}\n</document>` } };
  }
  throw new NotReadableError("no model reads the storage of the document");
};

/** The enabled models that read where the document lies, those of the standard tier first, the cheapest first. */
const readersOf = (
  { storageOf }: DocumentSummaryDeps,
  { modelCatalog }: PolicySnapshot,
  { backend }: UnsummarizedDocument,
): ModelEntry[] =>
  cheapestFirst(
    modelCatalog.filter((model) => model.enabled && storageOf(model.providerId)?.backend === backend),
  );

const requestOf = (
  { tenantId, chatId, systemRequestId }: Task,
  userId: UserId,
  model: ModelEntry,
  input: ProviderPart,
): ProviderRequest => ({
  model: model.providerModelId,
  systemInstructions: documentInstructions,
  messages: [{ role: "user", content: [input, { text: documentRequest }] }],
  maxOutputTokens: Math.min(maxOutputTokens, model.maxOutputTokens),
  tools: [],
  userIdentity: { tenantId, userId },
  metadata: { tenantId, userId, chatId, requestType: "doc_summary", features: [] },
  params: model.generalConfig.apiParams,
  correlationId: systemRequestId,
});

const ids = (task: Task): object => ({
  tenant_id: task.tenantId,
  chat_id: task.chatId,
  attachment_id: task.id,
  request_id: task.systemRequestId,
  requester_type: "system",
  processing_stage: "summary",
});
