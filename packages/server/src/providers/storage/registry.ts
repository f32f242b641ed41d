import { invariant } from "../../lib/assert.ts";
import type { ProviderEntry, Routes } from "../routes.ts";
import type { ProviderStorage, StorageContext, StorageRegistry } from "../storage-contract.ts";
import type { Upstream } from "../upstream.ts";
import { httpStorage, type PathShape } from "./http-storage.ts";
import { memoryStorage } from "./memory-storage.ts";

/** Makes the storage of a provider whose files we keep (docs/retrieval.md): only the server has a database. */
export type LocalStorageOf = (
  labels: Pick<ProviderStorage, "providerId" | "storageBackend">,
) => ProviderStorage;

/**
 * The storage of the configured providers, by `storage_kind` (attachments.md §13). Each call takes the
 * upstream of its context's tenant, with that upstream's credentials, breaker and caps.
 */
export function createStorageRegistry(
  providers: Readonly<Record<string, ProviderEntry>>,
  routes: Routes,
  local: LocalStorageOf | undefined,
): StorageRegistry {
  const storages = new Map<string, ProviderStorage>();
  for (const [id, entry] of Object.entries(providers)) {
    const storage = storageOf(id, entry, routes, local);
    if (storage !== null) storages.set(id, storage);
  }
  return {
    forModelProvider: (id) => {
      const entry = Object.hasOwn(providers, id) ? providers[id] : undefined;
      if (entry === undefined) return null;
      const own = storages.get(id);
      // `rag_provider` defaults to the provider itself, which is none for one without storage.
      return own ?? storages.get(entry.rag_provider) ?? null;
    },
    byProviderId: (id) => storages.get(id) ?? null,
    accounts: () =>
      [...storages.values()].flatMap((storage) => [
        { storage, tenantId: null },
        ...routes.overrideTenants(storage.providerId).map((tenantId) => ({ storage, tenantId })),
      ]),
  };
}

const storageOf = (
  providerId: string,
  entry: ProviderEntry,
  routes: Routes,
  local: LocalStorageOf | undefined,
): ProviderStorage | null => {
  const labels = { providerId, storageBackend: entry.storage_backend };
  if (entry.storage_kind === "none") return null;
  if (entry.storage_kind === "local") {
    invariant(local !== undefined, "a server with local files has a storage for them");
    return local(labels);
  }
  if (entry.storage_kind === "memory") return { ...labels, local: false, ...memoryStorage() };
  const upstreamFor = ({ tenantId }: StorageContext): Upstream => {
    const route = routes.find(providerId, tenantId);
    invariant(route !== null, "a provider with storage has routes");
    return route.upstream;
  };
  return { ...labels, local: false, ...httpStorage(shapeOf(providerId, entry), upstreamFor) };
};

/** Path shapes of providers.md §2.2 and §9. */
const shapeOf = (
  providerId: string,
  { storage_kind: kind, api_version: version }: ProviderEntry,
): PathShape => {
  if (kind === "openai") return { base: "/v1", query: {} };
  if (version === undefined) throw new Error(`provider ${providerId}: storage_kind azure needs api_version`);
  return { base: "/openai", query: { "api-version": version } };
};
