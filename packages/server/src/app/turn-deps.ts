import type { RunningUploads } from "../attachments/running.ts";
import { findLiveAttachmentIds } from "../attachments/store.ts";
import type { Authorizer } from "../auth/authorize.ts";
import type { Config } from "../config/schema.ts";
import { resolveGuards } from "../context/guards.ts";
import type { DirectConnection } from "../db/direct.ts";
import type { Db } from "../db/pool.ts";
import type { OutboxEnqueuer } from "../outbox/enqueuer.ts";
import { budgetsOf } from "../policy/entry.ts";
import type { PolicyService } from "../policy/service.ts";
import type { ProviderRegistry } from "../providers/contract.ts";
import type { StorageRegistry } from "../providers/storage-contract.ts";
import { readQuotaWarnings } from "../quota/status.ts";
import { findPassages } from "../retrieval/passages.ts";
import type { SummaryRules } from "../summaries/trigger.ts";
import type { Logger } from "../telemetry/log.ts";
import type { Metrics } from "../telemetry/metrics.ts";
import type { RunningTurns } from "../turns/cancellation.ts";
import type { LogReaders } from "../turns/readers.ts";
import type { ResumeRoutesDeps } from "../turns/resume-routes.ts";
import type { TurnRoutesDeps } from "../turns/routes.ts";
import { modelStorage } from "./model-storage.ts";

export interface Parts {
  readonly config: Config;
  readonly db: Db;
  readonly direct: Pick<DirectConnection, "notify">;
  readonly instanceId: string;
  readonly authorizer: Authorizer;
  readonly policy: PolicyService;
  readonly registry: ProviderRegistry;
  /** Files and vector stores at the providers. */
  readonly storage: StorageRegistry;
  readonly outbox: OutboxEnqueuer;
  readonly running: RunningTurns;
  readonly uploads: RunningUploads;
  readonly readers: LogReaders;
  readonly metrics: Metrics;
  readonly logger: Logger;
}

/** `quota.overshoot_tolerance_factor` in basis points (quota.md §7.4). */
export const overshootToleranceBp = (config: Config): bigint =>
  BigInt(Math.round(config.quota.overshoot_tolerance_factor * 10_000));

/** What running a turn needs, from the configuration and the parts of the process. */
export const turnDeps = (parts: Parts): TurnRoutesDeps & ResumeRoutesDeps => {
  const { config, db, registry, outbox } = parts;
  const { streaming, quota, context } = config;
  const quotaStatus = { db, policy: parts.policy, warningThresholdPct: quota.warning_threshold_pct };
  return {
    ...settingsOf(config),
    db,
    outbox,
    authorizer: parts.authorizer,
    policy: parts.policy,
    running: parts.running,
    readers: parts.readers,
    instanceId: parts.instanceId,
    metrics: parts.metrics,
    logger: parts.logger,
    guards: resolveGuards({
      webSearch: context.web_search_guard,
      fileSearch: context.file_search_guard,
      untrustedContent: context.untrusted_content_guard,
    }),
    resolveTarget: (providerId, tenantId) => registry.resolve(providerId, tenantId),
    storageOf: (providerId) => modelStorage(parts, providerId),
    adapterOf: (target) => registry.adapter(target),
    findPassages: (tenantId, chatId, search) => findPassages(db, tenantId, chatId, search),
    readQuotaWarnings: (actor) => readQuotaWarnings(quotaStatus, actor),
    notify: (channel, payload) => parts.direct.notify(channel, payload),
    liveAttachments: (tenantId, chatId, ids) => findLiveAttachmentIds(db, tenantId, chatId, ids),
    channelCapacity: streaming.sse_channel_capacity,
    silenceMs: streaming.sse_ping_interval_seconds * 1_000,
    stalledMs: streaming.slow_client_timeout_secs * 1_000,
    maxActiveStreams: streaming.max_active_streams,
    maxDurationMs: streaming.turn_max_duration_secs * 1_000,
    detachedMaxMs: config.resume.detached_max_secs * 1_000,
  };
};

const summaryRules = ({ thread_summary_worker: worker, context }: Config): SummaryRules | null =>
  worker.enabled
    ? {
        thresholdPct: worker.compression_threshold_pct,
        // What would not be sent any more has no reason to stay outside of the summary.
        keepRecent: Math.min(worker.keep_recent_messages, context.recent_messages_limit),
      }
    : null;

const settingsOf = (config: Config) => {
  const { streaming, quota } = config;
  return {
    apiRoot: `${config.url_prefix}/v1`,
    maxImagesPerMessage: config.rag.max_images_per_message,
    recentMessagesLimit: config.context.recent_messages_limit,
    maxOutputTokens: streaming.max_output_tokens,
    overshootToleranceBp: overshootToleranceBp(config),
    auditContent: config.audit.include_content,
    summaryRules: summaryRules(config),
    estimationBudgets: budgetsOf(config.estimation_budgets),
    dailyQuotas: {
      webSearch: quota.web_search_daily_quota,
      codeInterpreter: quota.code_interpreter_daily_quota,
      imageInputs: quota.image_inputs_daily_quota,
    },
    toolLimits: {
      webSearch: quota.web_search_max_calls_per_message,
      codeInterpreter: quota.code_interpreter_max_calls_per_message,
    },
  };
};
