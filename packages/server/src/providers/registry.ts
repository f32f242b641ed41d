import type { Config } from "../config/schema.ts";
import { invariant } from "../lib/assert.ts";
import { type Clock, systemClock } from "../lib/clock.ts";
import { type Logger, noLogger } from "../telemetry/log.ts";
import { type Metrics, noMetrics } from "../telemetry/metrics.ts";
import type { LlmProvider, ProviderRegistry, ProviderTarget } from "./contract.ts";
import { createCredentials, type SecretSource } from "./credentials.ts";
import { createOpenAiResponses } from "./openai-responses/adapter.ts";
import { type EgressLimits, openUpstream, type Upstream } from "./upstream.ts";

type ProviderEntry = Config["providers"][string];

type UpstreamOf = (target: ProviderTarget) => Upstream;

const adapterFactories: Partial<Record<ProviderEntry["kind"], (upstreamOf: UpstreamOf) => LlmProvider>> = {
  openai_responses: createOpenAiResponses,
};

/** Whether this release speaks the API of that kind of provider. */
export const hasAdapter = (kind: ProviderEntry["kind"]): boolean => Object.hasOwn(adapterFactories, kind);

export interface RegistryDeps {
  readonly providers: Config["providers"];
  readonly egress: Config["egress"];
  /** Resolves `secret_ref`s; null when nothing is stored under the reference. */
  readonly secret: SecretSource;
  readonly metrics?: Metrics;
  readonly logger?: Logger;
  readonly clock?: Clock;
}

/** One upstream with what a target says about it. */
interface Route {
  readonly upstream: Upstream;
  readonly target: Omit<ProviderTarget, "authHeaders">;
}

interface Routes {
  readonly root: Route;
  readonly byTenant: ReadonlyMap<string, Route>;
}

/**
 * The configured providers (providers.md §8.1, §10). A tenant with an override gets that upstream,
 * everyone else the root one: they share no connection, credential, breaker or cap. Throws when an
 * entry is unencrypted without `egress.allow_http_upstream`, or of a kind without an adapter.
 */
export function createProviderRegistry(deps: RegistryDeps): ProviderRegistry {
  const hosts = Object.values(deps.providers).flatMap((entry) => [
    entry.host,
    ...Object.values(entry.tenant_overrides).flatMap((override) => override.host ?? []),
  ]);
  const routes = new Map<string, Routes>(
    Object.entries(deps.providers).map(([id, entry]) => [id, openRoutes(id, entry, hosts, deps)]),
  );
  const upstreams = new WeakMap<ProviderTarget, Upstream>();
  const upstreamOf: UpstreamOf = (target) => {
    const upstream = upstreams.get(target);
    invariant(upstream !== undefined, "a provider target comes from resolve()");
    return upstream;
  };
  const adapters = new Map<string, LlmProvider>(
    Object.entries(adapterFactories).map(([kind, create]) => [kind, create(upstreamOf)]),
  );
  return {
    resolve: (providerId, tenantId) => {
      const found = routes.get(providerId);
      if (found === undefined) return null;
      const { upstream, target } = found.byTenant.get(tenantId) ?? found.root;
      const resolved: ProviderTarget = { ...target, authHeaders: upstream.credentials.headers() };
      upstreams.set(resolved, upstream);
      return resolved;
    },
    adapter: (target) => {
      const adapter = adapters.get(target.kind);
      invariant(adapter !== undefined, `no adapter for ${target.kind}`);
      return adapter;
    },
    close: async () => {
      const all = [...routes.values()].flatMap(({ root, byTenant }) => [root, ...byTenant.values()]);
      await Promise.all(all.map(({ upstream }) => upstream.wire.close()));
    },
  };
}

const openRoutes = (
  id: string,
  entry: ProviderEntry,
  hosts: readonly string[],
  deps: RegistryDeps,
): Routes => {
  if (entry.use_http && !deps.egress.allow_http_upstream) {
    throw new Error(`provider ${id}: use_http needs egress.allow_http_upstream`);
  }
  if (!hasAdapter(entry.kind)) throw new Error(`provider ${id}: no adapter for ${entry.kind}`);
  const open = (host: string, auth: ProviderEntry["auth"]): Route =>
    openRoute(id, entry, host, auth, hosts, deps);
  const byTenant = Object.entries(entry.tenant_overrides).map(([tenant, override]): [string, Route] => [
    tenant,
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
  deps: RegistryDeps,
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

/** The timers of `egress`, where the provider has none of its own. */
const egressLimits = ({ timeouts }: ProviderEntry, egress: Config["egress"]): EgressLimits => ({
  connectTimeoutMs: (timeouts.connect_timeout_secs ?? egress.connect_timeout_secs) * 1000,
  headersTimeoutMs: (timeouts.request_timeout_secs ?? egress.request_timeout_secs) * 1000,
  nonStreamingTimeoutMs: (timeouts.non_streaming_timeout_secs ?? egress.non_streaming_timeout_secs) * 1000,
  idleTimeoutMs: (timeouts.idle_timeout_secs ?? egress.idle_timeout_secs) * 1000,
  maxBodyBytes: egress.max_body_mb * 1_048_576,
});
