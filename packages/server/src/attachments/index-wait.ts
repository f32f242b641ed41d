import { sleep } from "../lib/sleep.ts";
import type { IndexStatus, ProviderStorage, StorageContext } from "../providers/storage-contract.ts";

/** Delays between looks at an index under way, in ms: 0.5 s, doubling to 5 s (attachments.md §8). */
const firstMs = 500;
const longestMs = 5_000;
/** What the last look may take: none may hold the upload for as long as a provider's other calls. */
const lookMs = 1_000;

export interface Indexed {
  readonly storeId: string;
  readonly providerFileId: string;
}

/**
 * Waits until a file just added to a store is searchable, at most `limitMs`; whether it may be used.
 * Only a provider that says `failed` or `cancelled` says no: a status that cannot be read, or is not
 * decided in time, is left to the provider (attachments.md §8). Throws the reason of a signal that fires.
 */
export const waitForIndex = async (
  storage: ProviderStorage,
  context: StorageContext,
  file: Indexed,
  added: IndexStatus,
  limitMs: number,
): Promise<boolean> => {
  const giveUpAt = performance.now() + limitMs;
  let status = added;
  for (let wait = firstMs; status === "in_progress"; wait = Math.min(wait * 2, longestMs)) {
    const left = giveUpAt - performance.now();
    if (left <= 0) break;
    await sleep(Math.min(wait, left), context.signal);
    context.signal?.throwIfAborted();
    const over = AbortSignal.timeout(Math.max(lookMs, Math.ceil(giveUpAt - performance.now())));
    const signal = context.signal === undefined ? over : AbortSignal.any([context.signal, over]);
    status = await storage.stores
      .fileStatus({ ...context, signal }, file.storeId, file.providerFileId)
      .catch((): IndexStatus => "unknown");
  }
  context.signal?.throwIfAborted();
  return status !== "failed" && status !== "cancelled";
};
