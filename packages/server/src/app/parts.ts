import { RunningUploads } from "../attachments/running.ts";
import { createAuthorizer } from "../auth/authorize.ts";
import { createLicenseGate, type LicenseGate } from "../auth/license.ts";
import type { DirectConnection } from "../db/direct.ts";
import { createOutbox, type Outbox } from "../outbox/outbox.ts";
import { inTime } from "../policy/plugin.ts";
import { createPolicyService } from "../policy/service.ts";
import type { SecretSource } from "../providers/credentials.ts";
import { createProviderRegistry } from "../providers/registry.ts";
import { RunningTurns } from "../turns/cancellation.ts";
import { LogReaders } from "../turns/readers.ts";
import { cleanupHandlers } from "./cleanup.ts";
import type { Given } from "./given.ts";
import { openLocalFiles } from "./local-files.ts";
import { choosePolicyPlugin } from "./policy-plugin.ts";
import type { Opened } from "./shutdown.ts";
import { createDelivery, type Delivery } from "./sinks.ts";
import { documentHandler, summaryHandler } from "./summaries.ts";
import type { Parts } from "./turn-deps.ts";

export interface Built {
  readonly parts: Parts;
  readonly outbox: Outbox;
  readonly delivery: Delivery;
  readonly licenseGate: LicenseGate;
}

type Ground = Pick<Parts, "config" | "db" | "instanceId" | "metrics" | "logger"> & {
  readonly direct: DirectConnection;
};

/**
 * Steps 6–8 of the start (ops.md §3): queues, plugins, providers. Throws `OutboxError`,
 * `PluginError` and `PolicyConfigError`; a provider or policy service that is down does not
 * matter here.
 */
export const buildParts = async (ground: Ground, given: Given, opened: Opened[]): Promise<Built> => {
  const { config, logger, metrics } = ground;
  const { overrides } = given;
  const outbox = createOutbox({
    ...ground,
    config: config.outbox,
    queues: {
      cleanupAttempts: config.cleanup_worker.max_attempts,
      summaryAttempts: config.thread_summary_worker.max_attempts,
      summaryLeaseSecs: config.thread_summary_worker.claim_timeout_secs,
      ...(overrides.queues === undefined ? {} : { override: overrides.queues }),
    },
    stopTimeoutMs: config.worker_stop_timeout_secs * 1_000,
  });
  await outbox.register();
  const providerIds = new Set(Object.keys(config.providers));
  const plugin = choosePolicyPlugin(config, providerIds, given, logger);
  opened.push({ name: "policy plugin", close: () => plugin.close?.() });
  const policy = createPolicyService({
    ...ground,
    ...overrides,
    config: config.policy_cache,
    plugin,
    providerIds,
  });
  const registry = createProviderRegistry({
    providers: config.providers,
    egress: config.egress,
    secret: given.secrets,
    localStorage: openLocalFiles(ground, opened),
    ...overrides,
    metrics,
    logger,
  });
  opened.push({ name: "providers", close: () => registry.close() });
  const delivery = await createDelivery({
    config,
    db: ground.db,
    usagePlugin: plugin,
    auditPlugins: overrides.auditPlugins ?? {},
    cleanup: cleanupHandlers({ ...ground, storage: registry.storage, outbox: outbox.enqueuer }),
    threadSummary: summaryHandler({ ...ground, policy, registry, outbox: outbox.enqueuer }),
    documentSummary: documentHandler({
      ...ground,
      policy,
      registry,
      storage: registry.storage,
      outbox: outbox.enqueuer,
    }),
    logger,
    metrics,
  });
  opened.push({ name: "sinks", close: delivery.close });
  warnOfMissingSecrets(ground, given.secrets);
  const running = new RunningTurns();
  return {
    outbox,
    delivery,
    licenseGate: createLicenseGate(config.license, {
      ...overrides,
      logger,
      checkUserLicense: inTime(plugin, config.policy_cache.plugin_timeout_ms).checkUserLicense,
    }),
    parts: {
      ...ground,
      authorizer: createAuthorizer(config.authz, { logger }),
      policy,
      registry,
      storage: registry.storage,
      outbox: outbox.enqueuer,
      running,
      uploads: new RunningUploads(),
      readers: new LogReaders(
        (channel, turnId) => ground.direct.notify(channel, turnId),
        (turnId) => running.has(turnId),
      ),
    },
  };
};

/** A provider without its secret can serve nobody; its turns fail as `internal_error` (ops.md §3 step 8). */
const warnOfMissingSecrets = ({ config, logger }: Ground, secrets: SecretSource): void => {
  for (const [id, { auth, tenant_overrides: tenants }] of Object.entries(config.providers)) {
    for (const one of [auth, ...Object.values(tenants).map((tenant) => tenant.auth)]) {
      if (one === undefined) continue;
      const references =
        one.kind === "apikey" ? [one.secret_ref] : [one.client_id_ref, one.client_secret_ref];
      for (const reference of references) {
        if (secrets(reference) === null) logger.warn({ provider: id, reference }, "secret is missing");
      }
    }
  }
};
