import { invariant } from "../lib/assert.ts";
import type { LlmProvider, ProviderRegistry, ProviderTarget } from "./contract.ts";
import { createOpenAiResponses } from "./openai-responses/adapter.ts";
import { openRoutes, type ProviderEntry, type RoutesDeps } from "./routes.ts";
import { createStorageRegistry, type LocalStorageOf } from "./storage/registry.ts";
import type { StorageRegistry } from "./storage-contract.ts";
import type { Upstream } from "./upstream.ts";

type UpstreamOf = (target: ProviderTarget) => Upstream;

const adapterFactories: Partial<Record<ProviderEntry["kind"], (upstreamOf: UpstreamOf) => LlmProvider>> = {
  openai_responses: createOpenAiResponses,
};

/** Whether this release speaks the API of that kind of provider. */
export const hasAdapter = (kind: ProviderEntry["kind"]): boolean => Object.hasOwn(adapterFactories, kind);

export interface RegistryDeps extends RoutesDeps {
  /** Needed where a provider has `storage_kind: local`. */
  readonly localStorage?: LocalStorageOf | undefined;
}

/** The configured providers as models and as storage: both go over the same upstreams. */
export interface Providers extends ProviderRegistry {
  readonly storage: StorageRegistry;
}

/**
 * The configured providers. Throws the errors of `openRoutes`, and for an entry of a kind without an
 * adapter.
 */
export function createProviderRegistry(deps: RegistryDeps): Providers {
  for (const [id, { kind }] of Object.entries(deps.providers)) {
    if (!hasAdapter(kind)) throw new Error(`provider ${id}: no adapter for ${kind}`);
  }
  const routes = openRoutes(deps);
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
      const route = routes.find(providerId, tenantId);
      if (route === null) return null;
      const { upstream, target } = route;
      const resolved: ProviderTarget = { ...target, authHeaders: upstream.credentials.headers() };
      upstreams.set(resolved, upstream);
      return resolved;
    },
    adapter: (target) => {
      const adapter = adapters.get(target.kind);
      invariant(adapter !== undefined, `no adapter for ${target.kind}`);
      return adapter;
    },
    storage: createStorageRegistry(deps.providers, routes, deps.localStorage),
    close: () => routes.close(),
  };
}
