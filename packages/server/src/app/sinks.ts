import {
  type AuditPlugin,
  auditDisabledHandler,
  auditPluginHandler,
  auditSinkHandler,
} from "../audit/publish.ts";
import { createAuditTable, insertAuditEvents } from "../audit/table.ts";
import { sinkTypes } from "../config/policy.ts";
import type { Config } from "../config/schema.ts";
import { poolOptions } from "../database.ts";
import { Db } from "../db/pool.ts";
import { createFileSink } from "../outbox/file-sink.ts";
import { createHttpSink } from "../outbox/http-sink.ts";
import { createLogSink } from "../outbox/log-sink.ts";
import type { Handlers, QueueHandler } from "../outbox/message.ts";
import type { Sink } from "../outbox/sink.ts";
import { createTableSink } from "../outbox/table-sink.ts";
import type { Logger } from "../telemetry/log.ts";
import type { Metrics } from "../telemetry/metrics.ts";
import { type UsagePublisher, usagePluginHandler, usageSinkHandler } from "../usage/publish.ts";
import { createUsageTable, insertUsageEvents } from "../usage/table.ts";
import { loadModuleSink } from "./module-sink.ts";
import { PluginError } from "./plugin-error.ts";

export interface DeliveryDeps {
  readonly config: Pick<Config, "plugins" | "database">;
  /** The server's own, where `postgres` sinks write by default. */
  readonly db: Db;
  readonly usagePlugin: UsagePublisher;
  /** Audit plugins of the embedding program, by the name `plugins.audit.type` may give. */
  readonly auditPlugins: Readonly<Record<string, AuditPlugin>>;
  readonly threadSummary: Handlers["thread_summary"];
  readonly documentSummary: Handlers["doc_summary"];
  readonly cleanup: Pick<Handlers, "attachment_cleanup" | "chat_cleanup">;
  readonly logger: Logger;
  readonly metrics: Metrics;
}

export interface Delivery {
  readonly handlers: Handlers;
  close(): Promise<void>;
}

/**
 * Binds every queue to what serves it: the only place that knows both. Queues whose handlers belong to
 * slices that do not exist yet keep their messages. Throws `PluginError` for a plugin that is not there.
 */
export const createDelivery = async (deps: DeliveryDeps): Promise<Delivery> => {
  const sinks: Sink[] = [];
  const open = async (name: "usage" | "audit"): Promise<Sink> => {
    const sink = await openSink(name, deps);
    sinks.push(sink);
    return sink;
  };
  const close = async (): Promise<void> => {
    await Promise.all(sinks.map((sink) => sink.close()));
  };
  try {
    return {
      handlers: {
        usage: await usageHandler(deps, open),
        audit: await auditHandler(deps, open),
        ...deps.cleanup,
        thread_summary: deps.threadSummary,
        doc_summary: deps.documentSummary,
      },
      close,
    };
  } catch (error) {
    await close();
    throw error;
  }
};

type Open = (name: "usage" | "audit") => Promise<Sink>;

const usageHandler = async (deps: DeliveryDeps, open: Open): Promise<QueueHandler> =>
  deps.config.plugins.usage.type === "policy_plugin"
    ? usagePluginHandler(() => deps.usagePlugin)
    : usageSinkHandler(await open("usage"));

const auditHandler = async (deps: DeliveryDeps, open: Open): Promise<QueueHandler> => {
  const { audit } = deps.config.plugins;
  if (audit.type === "none" || !audit.enabled) return auditDisabledHandler(deps.metrics);
  if (isSinkType(audit.type)) return auditSinkHandler(await open("audit"), deps.metrics);
  const plugin = Object.hasOwn(deps.auditPlugins, audit.type) ? deps.auditPlugins[audit.type] : undefined;
  if (plugin === undefined) {
    throw new PluginError(`plugins.audit.type: no audit plugin is named ${audit.type}`);
  }
  return auditPluginHandler(() => plugin, deps.metrics);
};

const isSinkType = (type: string): boolean => sinkTypes.some((one) => one === type);

const tables = {
  usage: { insert: insertUsageEvents, create: createUsageTable },
  audit: { insert: insertAuditEvents, create: createAuditTable },
} as const;

/** Opens what `plugins.{name}` asks for; the keys each type needs were checked with the configuration. */
const openSink = async (name: "usage" | "audit", deps: DeliveryDeps): Promise<Sink> => {
  const { type, path, max_file_bytes: maxBytes, url, ...settings } = deps.config.plugins[name];
  if (type === "file" && path !== undefined) {
    return createFileSink({ path, ...(maxBytes === 0 ? {} : { maxBytes }) });
  }
  if (type === "http" && url !== undefined) {
    return createHttpSink({
      url,
      token: settings.token?.reveal(),
      secret: settings.secret?.reveal(),
      timeoutMs: settings.timeout_secs * 1_000,
    });
  }
  if (type === "postgres") return openTableSink(name, deps, settings.database_url?.reveal());
  if (type === "module" && settings.module !== undefined) {
    return loadModuleSink(`plugins.${name}.module`, settings.module, settings.options.reveal());
  }
  return createLogSink(deps.logger);
};

const openTableSink = (name: "usage" | "audit", deps: DeliveryDeps, url: string | undefined): Sink => {
  const { insert, create } = tables[name];
  if (url === undefined) return createTableSink({ db: deps.db, insert });
  const db = new Db({
    ...poolOptions(deps.config, url),
    maxConnections: 2,
    onError: (error) => deps.logger.warn({ err: error }, `database of plugins.${name} lost`),
  });
  return createTableSink({ db, insert, create, close: () => db.close() });
};
