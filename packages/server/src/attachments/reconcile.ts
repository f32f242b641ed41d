import type { Db } from "../db/pool.ts";
import type { StorageAccount, StoredObject } from "../providers/storage-contract.ts";
import type { Logger } from "../telemetry/log.ts";
import type { Metrics } from "../telemetry/metrics.ts";
import { scanOwnedAcrossTenants } from "./cleanup-scan-store.ts";
import { scanKnownStoresAcrossTenants } from "./cleanup-vector-store.ts";

export interface ReconcileDeps {
  readonly db: Db;
  readonly accounts: () => readonly StorageAccount[];
  readonly metrics: Metrics;
  readonly logger: Logger;
  /** `reconcile.grace_secs`: younger objects may be about to get their row. */
  readonly graceSecs: number;
  /** `reconcile.dry_run`: only tells. */
  readonly dryRun: boolean;
}

export interface Reconciled {
  readonly files: number;
  readonly stores: number;
}

/** Per run, of both kinds and all providers together (attachments.md §13). */
export const maxDeletions = 500;

const batchSize = 200;

/** `{chat_id}_{attachment_id}.{ext}`: the names of our files, and of nobody else's. */
const ourName =
  /^[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}_([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})\.[a-z0-9]{1,16}$/;

/**
 * Deletes what lies at the providers and belongs to nobody here (attachments.md §13): files of ours whose
 * attachment is gone or needs them no more, and stores without a chat. A provider that fails does not keep
 * the others from being looked at; the signal stops it between objects.
 */
export const reconcileProviders = async (deps: ReconcileDeps, signal: AbortSignal): Promise<Reconciled> => {
  const found = { files: 0, stores: 0 };
  const left = (): number => maxDeletions - found.files - found.stores;
  for (const account of deps.accounts()) {
    const { files, stores } = account.storage;
    const context = { tenantId: account.tenantId, correlationId: "reconcile", signal };
    const over = (): boolean => signal.aborted || left() <= 0;
    try {
      for await (const batch of batches(files.list(context), (one) => isOurFile(deps, one))) {
        const orphans = await orphanFiles(deps, batch);
        found.files += await removeAll(deps, account, "file", orphans.slice(0, left()), over, (id) =>
          files.delete(context, id),
        );
        if (over()) break;
      }
      for await (const batch of batches(stores.list(context), (one) => isOurStore(deps, one))) {
        const orphans = await orphanStores(deps, batch);
        found.stores += await removeAll(deps, account, "vector_store", orphans.slice(0, left()), over, (id) =>
          stores.delete(context, id),
        );
        if (over()) break;
      }
    } catch (error) {
      if (signal.aborted) break;
      deps.logger.error({ err: error, provider: account.storage.providerId }, "provider not reconciled");
    }
  }
  deps.logger.info(
    { ...found, dry_run: deps.dryRun, processing_stage: "cleanup" },
    "provider objects without an owner",
  );
  return found;
};

const isOld = ({ graceSecs }: ReconcileDeps, { createdAt }: StoredObject): boolean =>
  createdAt.getTime() < Date.now() - graceSecs * 1_000;

const isOurFile = (deps: ReconcileDeps, object: StoredObject): boolean =>
  isOld(deps, object) && ourName.test(object.name ?? "");

// Ours are made without a name (providers.md §9): one that has a name is somebody else's.
const isOurStore = (deps: ReconcileDeps, object: StoredObject): boolean =>
  isOld(deps, object) && (object.name ?? "") === "";

const attachmentIdOf = ({ name }: StoredObject): string => ourName.exec(name ?? "")?.[1] ?? "";

const orphanFiles = async (
  { db }: ReconcileDeps,
  files: readonly StoredObject[],
): Promise<StoredObject[]> => {
  const owned = await scanOwnedAcrossTenants(db, files.map(attachmentIdOf));
  return files.filter((file) => !owned.has(attachmentIdOf(file)));
};

const orphanStores = async (
  { db }: ReconcileDeps,
  stores: readonly StoredObject[],
): Promise<StoredObject[]> => {
  const known = await scanKnownStoresAcrossTenants(
    db,
    stores.map(({ id }) => id),
  );
  return stores.filter(({ id }) => !known.has(id));
};

/** How many were removed, or would have been; one that fails is left to the next run. */
const removeAll = async (
  { dryRun, metrics, logger }: ReconcileDeps,
  { storage }: StorageAccount,
  kind: "file" | "vector_store",
  orphans: readonly StoredObject[],
  over: () => boolean,
  remove: (id: string) => Promise<void>,
): Promise<number> => {
  let removed = 0;
  for (const { id, name } of orphans) {
    if (over()) break;
    const facts = { provider: storage.providerId, kind, name, dry_run: dryRun, processing_stage: "cleanup" };
    try {
      if (!dryRun) {
        await remove(id);
        metrics.count("reconcile_deleted", { kind });
      }
      removed += 1;
      logger.info(facts, "provider object without an owner");
    } catch (error) {
      if (over()) break;
      logger.warn({ ...facts, err: error }, "provider object without an owner not deleted");
    }
  }
  return removed;
};

/** What passes the filter, in batches: a list of a provider may be as long as it likes. */
const batches = async function* (
  objects: AsyncIterable<StoredObject>,
  wanted: (object: StoredObject) => boolean,
): AsyncGenerator<readonly StoredObject[], void> {
  let batch: StoredObject[] = [];
  for await (const object of objects) {
    if (!wanted(object)) continue;
    batch.push(object);
    if (batch.length < batchSize) continue;
    yield batch;
    batch = [];
  }
  if (batch.length > 0) yield batch;
};
