import type { StorageRegistry } from "../providers/storage-contract.ts";
import type { ModelStorage } from "../turns/readable-files.ts";

/** Where the files of a provider's models lie; null when it has no storage. */
export const modelStorage = (
  { storage }: { readonly storage: Pick<StorageRegistry, "forModelProvider"> },
  providerId: string,
): ModelStorage | null => {
  const found = storage.forModelProvider(providerId);
  return found === null ? null : { backend: found.storageBackend, local: found.local };
};
