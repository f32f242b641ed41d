import { randomUUID } from "node:crypto";
import type { Given } from "./app/given.ts";
import { closeListener, createListeners } from "./app/listeners.ts";
import { buildParts } from "./app/parts.ts";
import { startProcessMetrics } from "./app/process-metrics.ts";
import { closeAll, type Draining, drain, type Opened } from "./app/shutdown.ts";
import { openStorage } from "./app/storage.ts";
import { startWork } from "./app/work.ts";
import type { Config } from "./config/schema.ts";
import type { Db } from "./db/pool.ts";
import type { Listening } from "./http/listen.ts";
import type { Logger } from "./telemetry/log.ts";
import { createMetrics, type Metrics } from "./telemetry/metrics.ts";

export interface AppOptions {
  readonly config: Config;
  readonly logger: Logger;
  /** Names this process in `app_instances` and in its turns. */
  readonly instanceId?: string;
  readonly given: Partial<Given> & Pick<Given, "secrets">;
}

/** A serving process. */
export interface App {
  /** Null in the role `worker`. */
  readonly api: Listening | null;
  /** Null when `server.ops_bind_address` is. */
  readonly ops: Listening | null;
  readonly db: Db;
  readonly metrics: Metrics;
  /** The OpenAPI document of the operations served. */
  openapi(): object;
  /**
   * Drains, then stops (ops.md §9); `hurried` ends running turns at once, also in a stop under way.
   * Idempotent.
   */
  stop(options?: { readonly hurried?: boolean }): Promise<void>;
  /** The last step of a stop alone, whatever runs (ops.md §9): the process must end right after it. */
  leave(): Promise<void>;
}

const leaveMs = 2_000;

/** Steps 5–6 of a stop: the outbox has its own limit, everything else takes moments. */
const closeMs = (config: Config): number => config.worker_stop_timeout_secs * 1_000 + 4_000;

/**
 * Brings a process up in the order of ops.md §3 and returns it once it serves. What fails on the way
 * closes what was opened before it and is rethrown: the errors of `openDatabase` and `buildParts`, or
 * `OutboxError` for a partition count that differs from the stored one or messages under another queue name.
 */
export const startApp = async (options: AppOptions): Promise<App> => {
  const opened: Opened[] = [];
  try {
    return await bringUp(options, opened);
  } catch (error) {
    await closeAll(opened, options.logger, closeMs(options.config));
    throw error;
  }
};

const bringUp = async (options: AppOptions, opened: Opened[]): Promise<App> => {
  const { config, logger } = options;
  const given: Given = { overrides: {}, variable: () => undefined, ...options.given };
  const metrics = createMetrics(config.metrics.prefix);
  const instanceId = options.instanceId ?? randomUUID();
  const { db, direct } = await openStorage(config, instanceId, logger, opened);
  const ground = [...opened];
  opened.push({ name: "process metrics", close: startProcessMetrics(db, metrics) });
  const built = await buildParts({ config, db, direct, instanceId, metrics, logger }, given, opened);
  const { parts } = built;
  const draining: Draining = { unready: false, refusing: false };
  const listeners = createListeners(parts, built, given.overrides, draining);
  opened.push({ name: "ops listener", close: () => closeListener(listeners.ops) });
  const ops = await listeners.ops.listen();
  await startWork(parts, built.outbox, built.delivery.handlers, direct, opened);
  opened.push({ name: "public listener", close: () => closeListener(listeners.api) });
  await listeners.api.app.ready();
  const api = config.role === "worker" ? null : await listeners.api.listen();
  logger.info({ api: api?.port, ops: ops?.port, config_role: config.role }, "ready");
  const hurry = new AbortController();
  let stopped: Promise<void> | undefined;
  return {
    api,
    ops,
    db,
    metrics,
    openapi: () => listeners.api.openapi(),
    stop: ({ hurried = false } = {}) => {
      if (hurried) hurry.abort();
      stopped ??= drain(parts, draining, hurry.signal).then(() => closeAll(opened, logger, closeMs(config)));
      return stopped;
    },
    leave: async () => {
      await closeAll(ground, logger, leaveMs);
    },
  };
};
