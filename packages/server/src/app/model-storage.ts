import type { Config } from "../config/schema.ts";
import type { StorageRegistry } from "../providers/storage-contract.ts";
import type { ModelStorage } from "../turns/readable-files.ts";

/** Where the files of a provider's models lie; null when it has no storage. */
export const modelStorage = (
  {
    storage,
    config,
  }: {
    readonly storage: Pick<StorageRegistry, "forModelProvider">;
    readonly config: Pick<Config, "providers">;
  },
  providerId: string,
): ModelStorage | null => {
  const found = storage.forModelProvider(providerId);
  if (found === null) return null;
  return {
    backend: found.storageBackend,
    local: found.local,
    filters: config.providers[providerId]?.supports_file_search_filters === true,
  };
};
