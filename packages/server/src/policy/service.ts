import type { Actor, TenantId, UserId } from "../auth/actor.ts";
import type { Config } from "../config/schema.ts";
import type { Db } from "../db/pool.ts";
import { AppError } from "../errors.ts";
import { invariant } from "../lib/assert.ts";
import { type Clock, systemClock } from "../lib/clock.ts";
import { sleep } from "../lib/sleep.ts";
import type { Logger } from "../telemetry/log.ts";
import type { Metrics } from "../telemetry/metrics.ts";
import { createLimitsCache, type LimitsCache } from "./cache/limits.ts";
import { createLoad, type Load } from "./cache/load.ts";
import { createSnapshotCache, type SnapshotCache } from "./cache/snapshots.ts";
import { createVersions, type Tenant, type Versions } from "./cache/versions.ts";
import { inTime, type ModelPolicyPlugin, type PluginContext } from "./plugin.ts";
import type { EffectivePolicy, PolicySnapshot } from "./snapshot.ts";

/** Who policy is resolved for; system tasks name the owner of the chat. */
export type PolicyUser = Pick<Actor, "tenantId" | "userId">;

/** The one source of policy in this process (policy.md §9). */
export interface PolicyService {
  /**
   * What applies to this user now. Asks the plugin only when nothing young enough is known; throws 503
   * `service_unavailable` when it then gives no valid answer.
   */
  resolve(user: PolicyUser): Promise<EffectivePolicy>;
  /**
   * A tenant has a new version. Settles when it is in force or given up, at once when there is nothing
   * to do or no user to ask on behalf of; never rejects. Requests of the tenant wait for it meanwhile.
   */
  notify(tenantId: TenantId, version: bigint): Promise<void>;
  /** Whether any tenant's policy was ever loaded (ops.md §4). */
  readonly everLoaded: boolean;
  /** One run of the background job (policy.md §9 rule 6): refreshes tenants seen in the last hour. */
  reconcile(signal: AbortSignal): Promise<void>;
}

export interface PolicyServiceDeps {
  readonly plugin: ModelPolicyPlugin;
  readonly config: Config["policy_cache"];
  /** Keys of the configuration's `providers`. */
  readonly providerIds: ReadonlySet<string>;
  readonly db: Db;
  readonly clock?: Clock;
  readonly logger?: Logger;
  readonly metrics?: Metrics;
}

const seenMs = 3_600_000;
const reconciledAtOnce = 8;

/** The service over a plugin; nothing is loaded until the first request of a tenant. */
export const createPolicyService = (deps: PolicyServiceDeps): PolicyService => {
  const clock = deps.clock ?? systemClock;
  let everLoaded = false;
  const caches = createCaches(deps, clock, () => {
    everLoaded = true;
  });
  return {
    resolve: (user) => resolve(caches, user, clock.now(), deps.config.plugin_timeout_ms),
    notify: async (tenantId, version) => {
      const tenant = caches.versions.tenant(tenantId);
      if (version <= (tenant.version ?? 0n) || version <= (tenant.announced ?? 0n)) return;
      tenant.announced = version;
      if (tenant.lastUser !== null) await caches.versions.fetchAnnounced(tenant, tenant.lastUser);
    },
    get everLoaded() {
      return everLoaded;
    },
    reconcile: (signal) => reconcile(caches.versions, clock.now(), signal),
  };
};

interface Caches {
  readonly versions: Versions;
  readonly snapshots: SnapshotCache;
  readonly limits: LimitsCache;
  readonly load: Load;
}

const createCaches = (deps: PolicyServiceDeps, clock: Clock, onLoad: () => void): Caches => {
  const { config, providerIds } = deps;
  const plugin = inTime(deps.plugin, config.plugin_timeout_ms);
  const maxStaleMs = config.max_stale_secs * 1_000;
  const logger = deps.logger === undefined ? {} : { logger: deps.logger };
  const load = createLoad({ ...logger, ...(deps.metrics === undefined ? {} : { metrics: deps.metrics }) });
  const limits = createLimitsCache({
    plugin,
    load,
    clock,
    capacity: config.limits_capacity,
    freshness: { ttlMs: config.limits_ttl_secs * 1_000, maxStaleMs },
  });
  const snapshots = createSnapshotCache({
    plugin,
    db: deps.plugin.stableVersions === false ? null : deps.db,
    providerIds,
    capacity: config.snapshot_capacity,
    ...logger,
  });
  const versions = createVersions({
    plugin,
    snapshots,
    load,
    clock,
    freshness: { ttlMs: config.version_ttl_secs * 1_000, maxStaleMs },
    onSwitch: (tenantId, version) => {
      onLoad();
      limits.dropBelow(tenantId, version);
    },
    ...logger,
  });
  return { versions, snapshots, limits, load };
};

const resolve = async (
  caches: Caches,
  { tenantId, userId }: PolicyUser,
  nowMs: number,
  waitMs: number,
): Promise<EffectivePolicy> => {
  const tenant = caches.versions.tenant(tenantId);
  tenant.lastUser = userId;
  tenant.lastSeenMs = nowMs;
  const ctx: PluginContext = { tenantId, userId };
  try {
    const version = await currentVersion(caches.versions, tenant, userId, waitMs);
    const [snapshot, limits] = await Promise.all([
      snapshotOf(caches, ctx, version),
      caches.limits.get(ctx, version),
    ]);
    return { version, snapshot, limits };
  } catch (cause) {
    throw new AppError("service_unavailable", {
      detail: "The policy is not available now.",
      headers: { "retry-after": "5" },
      cause,
    });
  }
};

/** The version in force for one request (policy.md §9 rules 1, 2 and 5). */
const currentVersion = async (
  versions: Versions,
  tenant: Tenant,
  userId: UserId,
  waitMs: number,
): Promise<bigint> => {
  if (tenant.version === null) await versions.refresh(tenant, userId);
  if (tenant.announced !== null) await within(waitMs, versions.fetchAnnounced(tenant, userId));
  const age = versions.age(tenant);
  if (age === "too_stale") await versions.refresh(tenant, userId);
  if (age === "stale") versions.refreshLater(tenant, userId);
  invariant(tenant.version !== null, "a refreshed tenant has a version");
  return tenant.version;
};

/** The snapshot of a version in force; it may have left memory for those of other tenants. */
const snapshotOf = async (
  { snapshots, load }: Caches,
  ctx: PluginContext,
  version: bigint,
): Promise<PolicySnapshot> =>
  snapshots.peek(ctx.tenantId, version) ??
  (await load("snapshot", ctx.tenantId, () => snapshots.get(ctx, version)));

const within = async (ms: number, work: Promise<void>): Promise<void> => {
  const done = new AbortController();
  await Promise.race([work, sleep(ms, done.signal)]);
  done.abort();
};

const reconcile = async (versions: Versions, nowMs: number, signal: AbortSignal): Promise<void> => {
  const due = [...versions.all()].filter(
    (tenant) => tenant.lastSeenMs > nowMs - seenMs && versions.age(tenant) !== "fresh",
  );
  const next = due.values();
  const worker = async (): Promise<void> => {
    for (const tenant of next) {
      if (signal.aborted) return;
      if (tenant.lastUser !== null) await versions.refresh(tenant, tenant.lastUser).catch(() => {});
    }
  };
  await Promise.all(Array.from({ length: reconciledAtOnce }, worker));
};
