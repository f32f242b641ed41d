import type { TenantId, UserId } from "../../auth/actor.ts";
import type { Clock } from "../../lib/clock.ts";
import { type Logger, noLogger } from "../../telemetry/log.ts";
import { type PluginContext, PolicyPluginError, type TimelyPlugin } from "../plugin.ts";
import { type Age, ageOf, type Freshness, retryPauseMs } from "./freshness.ts";
import type { Load } from "./load.ts";
import { Lru } from "./lru.ts";
import { createSingleFlight } from "./single-flight.ts";
import type { SnapshotCache } from "./snapshots.ts";

/** What is known about a tenant's current version. */
export interface Tenant {
  readonly tenantId: TenantId;
  /** In force: its snapshot was valid. Never decreases. */
  version: bigint | null;
  /** When the plugin last said what is current. */
  confirmedAtMs: number;
  /** No refresh in the background before. */
  retryAtMs: number;
  /** A version above the current one that was announced and not fetched yet. */
  announced: bigint | null;
  lastUser: UserId | null;
  lastSeenMs: number;
}

export interface VersionsDeps {
  readonly plugin: Pick<TimelyPlugin, "getCurrentPolicyVersion">;
  readonly snapshots: SnapshotCache;
  readonly load: Load;
  readonly clock: Clock;
  readonly freshness: Freshness;
  /** Called when a version comes into force. */
  readonly onSwitch: (tenantId: TenantId, version: bigint) => void;
  readonly logger?: Logger;
}

export interface Versions {
  tenant(tenantId: TenantId): Tenant;
  /** All tenants remembered. */
  all(): Iterable<Tenant>;
  age(tenant: Tenant): Age;
  /** Asks the plugin for the current version and brings it into force; throws when that fails. */
  refresh(tenant: Tenant, userId: UserId): Promise<void>;
  /** The same, later and without an error, but not again right after a failure. */
  refreshLater(tenant: Tenant, userId: UserId): void;
  /** Fetches announced versions until none is left; a failure drops the announcement. Never throws. */
  fetchAnnounced(tenant: Tenant, userId: UserId): Promise<void>;
}

// Far above the tenants of one process; a forgotten tenant is cold again, nothing worse.
const maxTenants = 100_000;
const maxVersion = BigInt(Number.MAX_SAFE_INTEGER);

export const createVersions = (deps: VersionsDeps): Versions => {
  const { clock, load } = deps;
  const tenants = new Lru<Tenant>(maxTenants);
  const once = createSingleFlight<void>();
  const chasing = createSingleFlight<void>();
  const refresh: Versions["refresh"] = (tenant, userId) =>
    once(tenant.tenantId, () =>
      load("current version", tenant.tenantId, async () => {
        const atMs = clock.now();
        const ctx = { tenantId: tenant.tenantId, userId };
        const { policyVersion } = await deps.plugin.getCurrentPolicyVersion(ctx);
        if (policyVersion < 1n || policyVersion > maxVersion) {
          throw new PolicyPluginError("internal", "the policy version is out of range");
        }
        await adopt(deps, tenant, ctx, policyVersion, atMs);
      }),
    );
  return {
    tenant: (tenantId) => {
      const known = tenants.get(tenantId) ?? newTenant(tenantId);
      tenants.set(tenantId, known);
      return known;
    },
    all: () => tenants.values(),
    age: (tenant) =>
      tenant.version === null ? "too_stale" : ageOf(tenant.confirmedAtMs, clock.now(), deps.freshness),
    refresh,
    refreshLater: (tenant, userId) => {
      const now = clock.now();
      if (now < tenant.retryAtMs) return;
      tenant.retryAtMs = now + retryPauseMs;
      refresh(tenant, userId).catch(() => {});
    },
    fetchAnnounced: (tenant, userId) => chasing(tenant.tenantId, () => chase(deps, tenant, userId)),
  };
};

const newTenant = (tenantId: TenantId): Tenant => ({
  tenantId,
  version: null,
  confirmedAtMs: 0,
  retryAtMs: 0,
  announced: null,
  lastUser: null,
  lastSeenMs: 0,
});

/**
 * Brings a version into force once its snapshot is there (policy.md §9 rule 3): one assignment, and
 * only upwards. A lower one is ignored; its sender has been heard, so what is in force stays so.
 */
const adopt = async (
  deps: VersionsDeps,
  tenant: Tenant,
  ctx: PluginContext,
  version: bigint,
  atMs: number,
): Promise<void> => {
  if (tenant.version !== null && version < tenant.version) {
    const fields = { tenant_id: tenant.tenantId, policy_version: version, in_force: tenant.version };
    (deps.logger ?? noLogger).warn(fields, "the policy version went back and is ignored");
  } else if (version !== tenant.version) {
    await deps.snapshots.get(ctx, version);
    // Another load may have been faster with a later version.
    if (tenant.version === null || version > tenant.version) {
      tenant.version = version;
      deps.onSwitch(tenant.tenantId, version);
    }
  }
  tenant.confirmedAtMs = Math.max(tenant.confirmedAtMs, atMs);
  tenant.retryAtMs = 0;
};

const chase = async (deps: VersionsDeps, tenant: Tenant, userId: UserId): Promise<void> => {
  const { tenantId } = tenant;
  // Every round ends an announcement, so there are as many as notifications arrive meanwhile.
  while (tenant.announced !== null) {
    const target = tenant.announced;
    if (tenant.version === null || target > tenant.version) {
      await deps
        .load("announced version", tenantId, () =>
          adopt(deps, tenant, { tenantId, userId }, target, deps.clock.now()),
        )
        .catch(() => {});
    }
    if (tenant.announced === target) tenant.announced = null;
  }
};
