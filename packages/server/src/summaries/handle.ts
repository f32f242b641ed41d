import type { TenantId } from "../auth/actor.ts";
import { findOwnerForTenant } from "../chats/store.ts";
import { comparePositions, type Position } from "../context/position.ts";
import { loadRange } from "../messages/summary-store.ts";
import { done, type Message, type QueueHandler, type Verdict } from "../outbox/message.ts";
import { perMessage } from "../outbox/run.ts";
import type { PolicyService } from "../policy/service.ts";
import { type LlmProvider, ProviderError, type ProviderTarget } from "../providers/contract.ts";
import type { Logger } from "../telemetry/log.ts";
import type { Metrics } from "../telemetry/metrics.ts";
import { type CommitDeps, commitSummary } from "./commit.ts";
import { reportAbsurdUsage, summaryFailure } from "./failure.ts";
import { EmptySummaryError, generateSummary, PromptTooLongError, type SummaryCall } from "./generate.ts";
import { summaryModel } from "./model.ts";
import { builtInInstructions } from "./prompt.ts";
import { findSummary } from "./store.ts";
import type { ThreadSummary } from "./summary.ts";
import { readTask, type Task } from "./task.ts";

export interface SummaryDeps extends CommitDeps {
  readonly policy: Pick<PolicyService, "resolve">;
  /** The upstream of a provider for a tenant; null when it is not configured. */
  readonly resolveTarget: (providerId: string, tenantId: TenantId) => ProviderTarget | null;
  readonly adapterOf: (target: ProviderTarget) => LlmProvider;
  readonly settings: {
    /** `""` is the built-in choice. */
    readonly modelId: string;
    /** Null takes the built-in text. */
    readonly instructions: string | null;
    readonly maxChars: number;
    /** The lease of the queue. */
    readonly leaseMs: number;
  };
  readonly metrics: Metrics;
  readonly logger: Logger;
}

// All calls of a task end 10 s before its lease (context.md §6.5); the queue keeps 5 s of it back.
const leaseReserveMs = 10_000;
const ownReserveMs = 5_000;
const concurrency = 4;

/** Newest messages of a range that a summary is made of; of a longer range the older ones are only marked. */
const maxLoaded = 5_000;

/**
 * The handler of the summary queue (context.md §6.3): reads the frozen range, has it condensed with no
 * transaction open, and commits the result if nothing it was made of has changed. Correctness rests on
 * that commit alone: deliveries may repeat, overlap and come too late.
 */
export const threadSummaryHandler = (deps: SummaryDeps): QueueHandler =>
  perMessage((message, signal) => handle(deps, message, signal), {
    concurrency,
    maxMs: deps.settings.leaseMs - leaseReserveMs,
    reserveMs: ownReserveMs,
  });

const handle = async (deps: SummaryDeps, message: Message, signal: AbortSignal): Promise<Verdict> => {
  const task = readTask(message);
  if ("verdict" in task) return task.verdict;
  try {
    return await summarise(deps, task, signal);
  } catch (error) {
    return failed(deps, task, error, signal);
  }
};

const summarise = async (deps: SummaryDeps, task: Task, signal: AbortSignal): Promise<Verdict> => {
  const { tenantId, chatId, target } = task;
  const startedAt = performance.now();
  const base = await findSummary(deps.db, tenantId, chatId);
  if (!isBase(task.base, base)) {
    // A frontier that is gone was taken back by a mutation: no race between summaries.
    if (base !== null) deps.metrics.count("thread_summary_cas_conflicts");
    return { kind: "already_terminal" };
  }
  const userId = await findOwnerForTenant(deps.db, tenantId, chatId);
  if (userId === null) return { kind: "already_terminal" };
  const range = { tenantId, chatId, after: task.base, upTo: target };
  const loaded = await loadRange(deps.db, range, { maxChars: deps.settings.maxChars, limit: maxLoaded });
  if (loaded.messages.every((message) => message.role === "system")) return done;
  const call = await callOf(deps, task, userId, signal);
  const generated = await generateSummary(call, loaded.messages, base?.text ?? null);
  // Its time is over, and the next delivery may have begun.
  signal.throwIfAborted();
  deps.metrics.count("thread_summary_execution", { result: "success" });
  if (generated.absurdUsage) reportAbsurdUsage(deps, ids(task));
  const outcome = await commitSummary(deps, {
    thread: task,
    systemRequestId: task.systemRequestId,
    base,
    target,
    loaded,
    text: generated.text,
    model: call.model,
    usage: generated.usage,
  });
  if (outcome === "conflict") deps.metrics.count("thread_summary_cas_conflicts");
  report(deps, task, {
    outcome,
    model: call.model.id,
    provider: call.target.providerId,
    messages: loaded.total,
    messages_left_out: loaded.total - loaded.messages.length + generated.left,
    calls: generated.calls,
    duration_ms: Math.round(performance.now() - startedAt),
  });
  return done;
};

const isBase = (base: Position | null, stored: ThreadSummary | null): boolean =>
  base === null || stored === null ? base === stored : comparePositions(base, stored.frontier) === 0;

/** Nobody can serve the task now: its model or provider is not to be found. */
class NotResolvableError extends Error {
  override name = "NotResolvableError";
}

const callOf = async (
  deps: SummaryDeps,
  task: Task,
  userId: SummaryCall["thread"]["userId"],
  signal: AbortSignal,
): Promise<SummaryCall> => {
  const { tenantId, chatId } = task;
  const { snapshot } = await deps.policy.resolve({ tenantId, userId });
  const model = summaryModel(snapshot, deps.settings.modelId);
  if (model === null) throw new NotResolvableError("no model can summarise");
  const target = deps.resolveTarget(model.providerId, tenantId);
  if (target === null) throw new NotResolvableError("the provider of the model is not configured");
  return {
    adapter: deps.adapterOf(target),
    target,
    model,
    instructions: model.threadSummaryPrompt || (deps.settings.instructions ?? builtInInstructions),
    thread: { tenantId, userId, chatId },
    systemRequestId: task.systemRequestId,
    maxChars: deps.settings.maxChars,
    signal,
  };
};

const failed = (deps: SummaryDeps, task: Task, error: unknown, signal: AbortSignal): Verdict => {
  if (error instanceof PromptTooLongError) deps.metrics.count("summary_fallback");
  deps.metrics.count("thread_summary_execution", { result: resultOf(error, signal) });
  const { facts, verdict } = summaryFailure(error);
  deps.logger.warn({ ...ids(task), ...facts }, "thread summary failed");
  return verdict;
};

const resultOf = (
  error: unknown,
  signal: AbortSignal,
): "provider_error" | "timeout" | "retry" | "empty_summary" => {
  if (error instanceof EmptySummaryError) return "empty_summary";
  if (signal.aborted) return "timeout";
  if (error instanceof PromptTooLongError) return "provider_error";
  if (!(error instanceof ProviderError) || error.withheld) return "retry";
  return error.code === "provider_timeout" ? "timeout" : "provider_error";
};

const ids = (task: Task): object => ({
  tenant_id: task.tenantId,
  chat_id: task.chatId,
  request_id: task.systemRequestId,
  requester_type: "system",
  processing_stage: "summary",
});

const report = ({ logger }: SummaryDeps, task: Task, facts: object): void =>
  logger.info({ ...ids(task), ...facts }, "thread summary");
