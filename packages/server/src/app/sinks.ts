import {
  type AuditPlugin,
  auditDisabledHandler,
  auditPluginHandler,
  auditSinkHandler,
} from "../audit/publish.ts";
import type { Config } from "../config/schema.ts";
import { createFileSink } from "../outbox/file-sink.ts";
import { createHttpSink } from "../outbox/http-sink.ts";
import { createLogSink } from "../outbox/log-sink.ts";
import type { Handlers, QueueHandler } from "../outbox/message.ts";
import type { Sink } from "../outbox/sink.ts";
import type { Logger } from "../telemetry/log.ts";
import type { Metrics } from "../telemetry/metrics.ts";
import { type UsagePublisher, usagePluginHandler, usageSinkHandler } from "../usage/publish.ts";

export interface DeliveryDeps {
  readonly config: Pick<Config, "plugins">;
  readonly usagePlugin: UsagePublisher;
  /** Audit plugins of the embedding program, by the name `plugins.audit.type` may give. */
  readonly auditPlugins: Readonly<Record<string, AuditPlugin>>;
  readonly threadSummary: Handlers["thread_summary"];
  readonly logger: Logger;
  readonly metrics: Metrics;
}

export interface Delivery {
  readonly handlers: Handlers;
  close(): Promise<void>;
}

type SinkSettings = Config["plugins"]["usage"] | Config["plugins"]["audit"];

/** The configuration names a plugin nobody registered. */
export class UnknownPluginError extends Error {
  override name = "UnknownPluginError";
}

/**
 * Binds every queue to what serves it: the only place that knows both. Queues whose handlers belong to
 * slices that do not exist yet keep their messages.
 */
export const createDelivery = (deps: DeliveryDeps): Delivery => {
  const sinks: Sink[] = [];
  const open = (settings: SinkSettings): Sink => {
    const sink = openSink(settings, deps.logger);
    sinks.push(sink);
    return sink;
  };
  return {
    handlers: {
      usage: usageHandler(deps, open),
      audit: auditHandler(deps, open),
      attachment_cleanup: "keep_waiting",
      chat_cleanup: "keep_waiting",
      thread_summary: deps.threadSummary,
      doc_summary: "keep_waiting",
    },
    close: async () => {
      await Promise.all(sinks.map((sink) => sink.close()));
    },
  };
};

const usageHandler = (deps: DeliveryDeps, open: (settings: SinkSettings) => Sink): QueueHandler => {
  const { usage } = deps.config.plugins;
  return usage.type === "policy_plugin"
    ? usagePluginHandler(() => deps.usagePlugin)
    : usageSinkHandler(open(usage));
};

const auditHandler = (deps: DeliveryDeps, open: (settings: SinkSettings) => Sink): QueueHandler => {
  const { audit } = deps.config.plugins;
  if (audit.type === "none" || !audit.enabled) return auditDisabledHandler(deps.metrics);
  if (audit.type === "log" || audit.type === "file" || audit.type === "http") {
    return auditSinkHandler(open(audit), deps.metrics);
  }
  const plugin = Object.hasOwn(deps.auditPlugins, audit.type) ? deps.auditPlugins[audit.type] : undefined;
  if (plugin === undefined) {
    throw new UnknownPluginError(`plugins.audit.type: no audit plugin is named ${audit.type}`);
  }
  return auditPluginHandler(() => plugin, deps.metrics);
};

const openSink = (settings: SinkSettings, logger: Logger): Sink => {
  if (settings.type === "file" && settings.path !== undefined) return createFileSink(settings.path);
  if (settings.type === "http" && settings.url !== undefined) {
    return createHttpSink({ url: settings.url, token: settings.token?.reveal() });
  }
  return createLogSink(logger);
};
