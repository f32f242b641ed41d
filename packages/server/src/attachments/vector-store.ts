import { findDeletionOfChat } from "../chats/store.ts";
import type { Db } from "../db/pool.ts";
import { inTransaction, type Tx } from "../db/tx.ts";
import { AppError } from "../errors.ts";
import { uuidV4 } from "../lib/id.ts";
import { sleep } from "../lib/sleep.ts";
import type { ProviderStorage, StorageContext } from "../providers/storage-contract.ts";
import type { Logger } from "../telemetry/log.ts";
import { untilAnswered } from "./answer-wait.ts";
import { attachmentNotFound } from "./attachment.ts";
import { cleanUpChatAgain, type FailDeps } from "./fail.ts";
import {
  type Claim,
  deletePlaceholder,
  findStore,
  insertPlaceholder,
  keepStoreForCleanup,
  type StoreOwner,
  type StoreRow,
  setStoreId,
  takeOverPlaceholder,
} from "./vector-store-store.ts";

export interface VectorStoreDeps {
  readonly db: Db;
  readonly outbox: FailDeps["outbox"];
  readonly logger: Logger;
}

/** A loser looks again after these times, in ms (attachments.md §12.4). */
const looks = [100, 200, 400, 800, 1_600] as const;

/**
 * The one vector store of a chat, created by the first upload that needs it (attachments.md §12). Of
 * parallel uploads one creates it and the others wait for its id; a creator that died is replaced after
 * 60 s. Throws 409 `provider_mismatch`, 502 `vector_store_race` or `vector_store_timeout`, 404 when the
 * chat was deleted meanwhile, and what the storage throws. No connection is held during a provider call.
 */
export const ensureVectorStore = async (
  deps: VectorStoreDeps,
  owner: StoreOwner,
  storage: ProviderStorage,
  context: StorageContext,
): Promise<string> => {
  const known = await findStore(deps.db, owner);
  if (known !== null) return (await idOf(known, storage)) ?? waitForId(deps, owner, storage, context);
  const claim = await inTransaction(deps.db, (tx) =>
    insertPlaceholder(tx, owner, {
      id: uuidV4(),
      backend: storage.storageBackend,
      providerId: storage.providerId,
    }),
  );
  if (claim !== null) return create(deps, owner, claim, storage, context);
  const others = await findStore(deps.db, owner);
  if (others === null) throw attachmentNotFound();
  return (await idOf(others, storage)) ?? waitForId(deps, owner, storage, context);
};

const idOf = async (row: StoreRow, storage: ProviderStorage): Promise<string | null> => {
  if (row.backend === storage.storageBackend) return row.vectorStoreId;
  throw new AppError("provider_mismatch", { detail: "The files of this chat live at another provider." });
};

/** Step 4: the loser, who creates a store only in the place of a dead winner. */
const waitForId = async (
  deps: VectorStoreDeps,
  owner: StoreOwner,
  storage: ProviderStorage,
  context: StorageContext,
): Promise<string> => {
  for (const ms of looks) {
    const claim = await inTransaction(deps.db, (tx) => takeOverPlaceholder(tx, owner));
    if (claim !== null) return create(deps, owner, claim, storage, context);
    await sleep(ms, context.signal);
    context.signal?.throwIfAborted();
    const row = await findStore(deps.db, owner);
    if (row === null) {
      throw new AppError("vector_store_race", { detail: "The document index could not be made." });
    }
    const id = await idOf(row, storage);
    if (id !== null) return id;
  }
  throw new AppError("vector_store_timeout", { detail: "The document index is still being made." });
};

/** Step 3: the winner. */
const create = async (
  deps: VectorStoreDeps,
  owner: StoreOwner,
  claim: Claim,
  storage: ProviderStorage,
  context: StorageContext,
): Promise<string> => {
  const takeBack = () => inTransaction(deps.db, (tx) => deletePlaceholder(tx, owner, claim));
  let made: string;
  try {
    // Its request is all the provider needs: cut off, it might leave a store that no row knows.
    made = await untilAnswered(
      context.signal,
      () => true,
      (signal) => storage.stores.create({ ...context, signal }),
    );
  } catch (error) {
    await takeBack();
    throw error;
  }
  if (await inTransaction(deps.db, (tx) => setStoreId(tx, owner, { id: claim.id, vectorStoreId: made }))) {
    return made;
  }
  await removeUnused(deps, owner, storage, context, made);
  const row = await findStore(deps.db, owner);
  const id = row === null ? null : await idOf(row, storage);
  if (id !== null && id !== made) return id;
  await takeBack();
  throw attachmentNotFound();
};

/** A store that no row knows. One of a deleted chat that stays is left to the chat's cleanup (attachments.md §12). */
const removeUnused = async (
  deps: VectorStoreDeps,
  owner: StoreOwner,
  storage: ProviderStorage,
  { tenantId, correlationId }: StorageContext,
  storeId: string,
): Promise<void> => {
  const facts = { provider: storage.providerId, processing_stage: "upload" };
  try {
    // Also for a client that has left: the signal of the upload does not count here.
    await storage.stores.delete({ tenantId, correlationId }, storeId);
  } catch {
    const kept = await inTransaction(deps.db, (tx) => leaveToCleanup(deps, tx, owner, storage, storeId));
    // Reconciliation deletes what no row tells of (attachments.md §13).
    deps.logger.warn({ ...facts, kept }, "unused vector store is left");
  }
};

const leaveToCleanup = async (
  deps: VectorStoreDeps,
  tx: Tx,
  owner: StoreOwner,
  { storageBackend: backend, providerId }: ProviderStorage,
  vectorStoreId: string,
): Promise<boolean> => {
  const chatDeletedAt = await findDeletionOfChat(tx, owner.tenantId, owner.chatId);
  if (chatDeletedAt === null) return false;
  const row = { id: uuidV4(), backend, providerId, vectorStoreId };
  if (!(await keepStoreForCleanup(tx, owner, row))) return false;
  await cleanUpChatAgain(deps, tx, owner, chatDeletedAt);
  return true;
};
