import { asTenantId, type TenantId } from "../auth/actor.ts";
import type { Config } from "../config/schema.ts";
import { type Clock, systemClock } from "../lib/clock.ts";
import { type Logger, noLogger } from "../telemetry/log.ts";
import { type Metrics, noMetrics } from "../telemetry/metrics.ts";
import type { ProviderTarget } from "./contract.ts";
import { createCredentials, type SecretSource } from "./credentials.ts";
import { type EgressLimits, openUpstream, type Upstream } from "./upstream.ts";

export type ProviderEntry = Config["providers"][string];

export interface RoutesDeps {
  readonly providers: Config["providers"];
  readonly egress: Config["egress"];
  /** Resolves `secret_ref`s; null when nothing is stored under the reference. */
  readonly secret: SecretSource;
  readonly metrics?: Metrics;
  readonly logger?: Logger;
  readonly clock?: Clock;
}

/** One upstream with what a target says about it. */
export interface Route {
  readonly upstream: Upstream;
  readonly target: Omit<ProviderTarget, "authHeaders">;
}

/** Where calls of each configured provider go. */
export interface Routes {
  /**
   * The upstream of a provider for a tenant: its override, else the root one, which is also nobody's in
   * particular (null). Null when no such provider is configured.
   */
  find(providerId: string, tenantId: TenantId | null): Route | null;
  /** Tenants with an upstream of their own at this provider. */
  overrideTenants(providerId: string): readonly TenantId[];
  /** Closes all connections; calls under way fail. */
  close(): Promise<void>;
}

/**
 * Opens the upstreams of the configured providers (providers.md §8.1, §10). A tenant with an override gets
 * that upstream, everyone else the root one: they share no connection, credential, breaker or cap. Throws
 * when an entry is unencrypted without `egress.allow_http_upstream`.
 */
export function openRoutes(deps: RoutesDeps): Routes {
  const hosts = Object.values(deps.providers).flatMap((entry) => [
    entry.host,
    ...Object.values(entry.tenant_overrides).flatMap((override) => override.host ?? []),
  ]);
  const routes = new Map<string, RoutesOfProvider>(
    Object.entries(deps.providers).map(([id, entry]) => [id, routesOf(id, entry, hosts, deps)]),
  );
  return {
    find: (providerId, tenantId) => {
      const found = routes.get(providerId);
      if (found === undefined) return null;
      return (tenantId === null ? undefined : found.byTenant.get(tenantId)) ?? found.root;
    },
    overrideTenants: (providerId) => [...(routes.get(providerId)?.byTenant.keys() ?? [])],
    close: async () => {
      const all = [...routes.values()].flatMap(({ root, byTenant }) => [root, ...byTenant.values()]);
      await Promise.all(all.map(({ upstream }) => upstream.wire.close()));
    },
  };
}

interface RoutesOfProvider {
  readonly root: Route;
  readonly byTenant: ReadonlyMap<TenantId, Route>;
}

const routesOf = (
  id: string,
  entry: ProviderEntry,
  hosts: readonly string[],
  deps: RoutesDeps,
): RoutesOfProvider => {
  if (entry.use_http && !deps.egress.allow_http_upstream) {
    throw new Error(`provider ${id}: use_http needs egress.allow_http_upstream`);
  }
  const open = (host: string, auth: ProviderEntry["auth"]): Route =>
    openRoute(id, entry, host, auth, hosts, deps);
  const byTenant = Object.entries(entry.tenant_overrides).map(([tenant, override]): [TenantId, Route] => [
    asTenantId(tenant),
    open(override.host ?? entry.host, override.auth ?? entry.auth),
  ]);
  return { root: open(entry.host, entry.auth), byTenant: new Map(byTenant) };
};

const openRoute = (
  id: string,
  entry: ProviderEntry,
  host: string,
  auth: ProviderEntry["auth"],
  hosts: readonly string[],
  deps: RoutesDeps,
): Route => {
  const clock = deps.clock ?? systemClock;
  const limits = egressLimits(entry, deps.egress);
  const origin = `${entry.use_http ? "http" : "https"}://${host}:${entry.port}`;
  const upstream = openUpstream({
    providerId: id,
    origin,
    limits,
    credentials: createCredentials(auth, {
      secret: deps.secret,
      clock,
      tokenTimeoutMs: limits.headersTimeoutMs,
    }),
    breakerLimits: entry.breaker,
    concurrency: entry.limits,
    hosts,
    clock,
    metrics: deps.metrics ?? noMetrics,
    logger: deps.logger ?? noLogger,
  });
  return {
    upstream,
    target: {
      providerId: id,
      kind: entry.kind,
      storageBackend: entry.storage_backend,
      origin,
      apiPath: entry.api_path,
      exposeReasoning: entry.expose_reasoning,
    },
  };
};

// Of every call about files and vector stores but the upload; no key changes it (providers.md §8.2).
const STORAGE_TIMEOUT_MS = 30_000;

/** The timers of `egress`, where the provider has none of its own. */
const egressLimits = ({ timeouts }: ProviderEntry, egress: Config["egress"]): EgressLimits => ({
  connectTimeoutMs: (timeouts.connect_timeout_secs ?? egress.connect_timeout_secs) * 1000,
  headersTimeoutMs: (timeouts.request_timeout_secs ?? egress.request_timeout_secs) * 1000,
  nonStreamingTimeoutMs: (timeouts.non_streaming_timeout_secs ?? egress.non_streaming_timeout_secs) * 1000,
  idleTimeoutMs: (timeouts.idle_timeout_secs ?? egress.idle_timeout_secs) * 1000,
  uploadTimeoutMs: (timeouts.upload_timeout_secs ?? egress.upload_timeout_secs) * 1000,
  storageTimeoutMs: STORAGE_TIMEOUT_MS,
  maxBodyBytes: egress.max_body_mb * 1_048_576,
});
