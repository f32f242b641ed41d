import type { TenantId } from "../auth/actor.ts";
import type { Db } from "../db/pool.ts";
import { inTransaction } from "../db/tx.ts";
import { isUuid, uuidV4 } from "../lib/id.ts";
import { sleep } from "../lib/sleep.ts";
import {
  type IndexStatus,
  type ProviderStorage,
  type StorageContext,
  StorageError,
  type StorageUpload,
  type StoredObject,
} from "../providers/storage-contract.ts";
import { addToStore, findIndexStatus, releaseFiles } from "./chunk-store.ts";
import type { LocalIndexer } from "./indexer.ts";
import {
  completeFile,
  deleteFile,
  deleteStore,
  insertFile,
  insertPiece,
  insertStore,
  listObjects,
} from "./store.ts";

/** Every call is made for a tenant: rows have no other owner, and nobody's match none. */
interface OwnedContext extends StorageContext {
  readonly tenantId: TenantId;
}

export interface LocalStorageOptions {
  readonly db: Db;
  readonly indexer: Pick<LocalIndexer, "run">;
  readonly providerId: string;
  /** Label stored on rows. */
  readonly storageBackend: string;
  /** `egress.upload_timeout_secs`: a client that stops sending must not keep its permit (attachments.md §13). */
  readonly uploadTimeoutMs?: number;
}

/** Most documents are indexed by then, and their upload need not ask again. */
const indexedAtOnceMs = 1_000;

/**
 * Files in PostgreSQL and their text in chunks, for providers that store none (`storage_kind: local`). Chat
 * and attachment are those in the file's name (attachments.md §4), and the file goes with either of them.
 */
export const createLocalStorage = (options: LocalStorageOptions): ProviderStorage => {
  const { db, indexer, providerId, storageBackend, uploadTimeoutMs = 300_000 } = options;
  return {
    providerId,
    storageBackend,
    local: true,
    files: {
      upload: async (context: OwnedContext, file) => {
        const over = AbortSignal.timeout(uploadTimeoutMs);
        const signal = context.signal === undefined ? over : AbortSignal.any([context.signal, over]);
        return upload(db, providerId, { ...context, signal }, file);
      },
      delete: ({ tenantId }: OwnedContext, id) =>
        answered(async () => {
          if (!isUuid(id)) return;
          await inTransaction(db, (tx) => deleteFile(tx, tenantId, providerId, id));
        }),
      list: ({ tenantId }: OwnedContext) => listed(db, tenantId, providerId, "files"),
    },
    stores: {
      create: ({ tenantId }: OwnedContext) =>
        answered(async () => {
          const storeId = uuidV4();
          await inTransaction(db, (tx) => insertStore(tx, tenantId, providerId, storeId));
          return storeId;
        }),
      addFile: ({ tenantId }: OwnedContext, storeId, fileId) =>
        answered(async () => {
          const file = { tenantId, providerId, fileId, storeId };
          const status = await inTransaction(db, (tx) => addToStore(tx, file));
          if (status === null) throw rejected("no such file or store");
          if (status !== "in_progress") return status;
          const over = new AbortController();
          await Promise.race([indexer.run(), sleep(indexedAtOnceMs, over.signal)]);
          over.abort();
          return (await findIndexStatus(db, file)) ?? "unknown";
        }),
      fileStatus: ({ tenantId }: OwnedContext, storeId, fileId): Promise<IndexStatus> =>
        answered(
          async () => (await findIndexStatus(db, { tenantId, providerId, fileId, storeId })) ?? "unknown",
        ),
      removeFile: ({ tenantId }: OwnedContext, storeId, fileId) =>
        answered(async () => {
          if (!isUuid(storeId) || !isUuid(fileId)) return;
          await inTransaction(db, (tx) => releaseFiles(tx, { tenantId, providerId, storeId }, fileId));
        }),
      delete: ({ tenantId }: OwnedContext, storeId) =>
        answered(async () => {
          if (!isUuid(storeId)) return;
          await inTransaction(db, async (tx) => {
            await releaseFiles(tx, { tenantId, providerId, storeId }, null);
            await deleteStore(tx, tenantId, providerId, storeId);
          });
        }),
      list: ({ tenantId }: OwnedContext) => listed(db, tenantId, providerId, "stores"),
    },
  };
};

const rejected = (detail: string): StorageError =>
  new StorageError("provider_rejected", { detail, httpStatus: 404, retryable: false });

/** Whatever the database says is an attempt that failed. */
const answered = async <T>(work: () => Promise<T>): Promise<T> => {
  try {
    return await work();
  } catch (error) {
    if (error instanceof StorageError) throw error;
    throw new StorageError("provider_unavailable", {
      detail: "local storage: the database failed",
      retryable: true,
      cause: error,
    });
  }
};

/** Bytes per row, and what an upload holds in memory. */
const pieceBytes = 262_144;

/** `{chat_id}_{attachment_id}.{ext}` */
const readName = (name: string): { chatId: string; attachmentId: string } => {
  const [chatId = "", attachmentId = ""] = name.replace(/\.[^.]*$/, "").split("_");
  if (!isUuid(chatId) || !isUuid(attachmentId)) throw rejected("the name of the file names no attachment");
  return { chatId, attachmentId };
};

/** An upload that ends early leaves nothing; one whose process dies leaves rows for the sweep. */
const upload = async (
  db: Db,
  providerId: string,
  { tenantId, signal }: OwnedContext,
  { name, contentType, stream }: StorageUpload,
): Promise<{ providerFileId: string; bytes: number }> => {
  const { chatId, attachmentId } = readName(name);
  const id = uuidV4();
  const file = { id, tenantId, chatId, attachmentId, providerId, name, contentType };
  const begun = await answered(() => inTransaction(db, (tx) => insertFile(tx, file)));
  if (!begun) throw rejected("no such attachment");
  try {
    const bytes = await storePieces(db, tenantId, id, stream, signal);
    if (!(await answered(() => inTransaction(db, (tx) => completeFile(tx, tenantId, id, bytes)))))
      throw gone();
    return { providerFileId: id, bytes };
  } catch (error) {
    // The caller has its error; what stays behind is swept.
    await inTransaction(db, (tx) => deleteFile(tx, tenantId, providerId, id)).catch(() => {});
    throw error;
  }
};

const gone = (): StorageError => rejected("the file was deleted during its upload");

const storePieces = async (
  db: Db,
  tenantId: TenantId,
  fileId: string,
  stream: AsyncIterable<Uint8Array>,
  signal: AbortSignal | undefined,
): Promise<number> => {
  const piece = Buffer.allocUnsafe(pieceBytes);
  let filled = 0;
  let no = 0;
  let bytes = 0;
  const flush = async (): Promise<void> => {
    if (filled === 0) return;
    const full = piece.subarray(0, filled);
    const stored = await answered(() =>
      inTransaction(db, (tx) => insertPiece(tx, tenantId, fileId, no, full)),
    );
    if (!stored) throw gone();
    no += 1;
    filled = 0;
  };
  for await (const arrived of untilAborted(stream, signal)) {
    for (let at = 0; at < arrived.length; ) {
      const part = arrived.subarray(at, at + pieceBytes - filled);
      piece.set(part, filled);
      filled += part.length;
      at += part.length;
      if (filled === pieceBytes) await flush();
    }
    bytes += arrived.length;
  }
  await flush();
  return bytes;
};

/** Ends with the signal also when the stream has nothing to say. */
async function* untilAborted<T>(
  stream: AsyncIterable<T>,
  signal: AbortSignal | undefined,
): AsyncGenerator<T> {
  const iterator = stream[Symbol.asyncIterator]();
  const aborted = Promise.withResolvers<null>();
  const onAbort = (): void => aborted.resolve(null);
  signal?.addEventListener("abort", onAbort, { once: true });
  if (signal?.aborted) onAbort();
  try {
    for (;;) {
      const next = await Promise.race([aborted.promise, iterator.next()]);
      if (next === null) throw abortedUpload(signal?.reason);
      if (next.done === true) return;
      yield next.value;
    }
  } finally {
    signal?.removeEventListener("abort", onAbort);
    // Not awaited: a stream that is waiting answers when its wait is over.
    iterator.return?.().catch(() => {});
  }
}

// Of the signals only the time limit has such a reason: nothing but the stream was waited for.
const abortedUpload = (cause: unknown): StorageError =>
  new StorageError("provider_unavailable", {
    detail: "local storage: the upload was aborted",
    reason: cause instanceof DOMException && cause.name === "TimeoutError" ? "stalled" : "aborted",
    retryable: false,
    cause,
  });

async function* listed(
  db: Db,
  tenantId: TenantId,
  providerId: string,
  kind: "files" | "stores",
): AsyncGenerator<StoredObject> {
  const objects = listObjects(db, tenantId, providerId, kind);
  for (;;) {
    const next = await answered(() => objects.next());
    if (next.done === true) return;
    const { id, name, createdAt } = next.value;
    yield { id, name, createdAt: new Date(createdAt) };
  }
}
