import { randomUUID } from "node:crypto";
import {
  type FileStorage,
  type StorageContext,
  StorageError,
  type StoredObject,
  type VectorStores,
} from "../storage-contract.ts";

/**
 * Storage in this process (attachments.md §13, `memory`): it remembers what there is, not the bytes, and
 * indexes at once. For tests; a second process knows nothing of it.
 */
export function memoryStorage(): { readonly files: FileStorage; readonly stores: VectorStores } {
  const files = new Map<string, StoredObject>();
  const stores = new Map<string, StoredObject & { readonly files: Set<string> }>();
  const storeOf = (id: string) => {
    const store = stores.get(id);
    if (store === undefined) throw rejected("no such vector store");
    return store;
  };
  return {
    files: {
      upload: async (context, { name, stream }) => {
        refuseAborted(context);
        let bytes = 0;
        for await (const piece of stream) {
          refuseAborted(context);
          bytes += piece.length;
        }
        const id = `file-memory-${randomUUID()}`;
        files.set(id, { id, name, createdAt: new Date() });
        return { providerFileId: id, bytes };
      },
      delete: async (_context, id) => {
        files.delete(id);
        for (const store of stores.values()) store.files.delete(id);
      },
      list: () => listed(files),
    },
    stores: {
      create: async () => {
        const id = `vs_memory_${randomUUID()}`;
        stores.set(id, { id, name: null, createdAt: new Date(), files: new Set() });
        return id;
      },
      addFile: async (_context, storeId, fileId) => {
        const store = storeOf(storeId);
        if (!files.has(fileId)) throw rejected("no such file");
        store.files.add(fileId);
        return "completed";
      },
      fileStatus: async (_context, storeId, fileId) =>
        stores.get(storeId)?.files.has(fileId) === true ? "completed" : "unknown",
      removeFile: async (_context, storeId, fileId) => {
        stores.get(storeId)?.files.delete(fileId);
      },
      delete: async (_context, storeId) => {
        stores.delete(storeId);
      },
      list: () => listed(stores),
    },
  };
}

const listed = async function* (objects: ReadonlyMap<string, StoredObject>): AsyncGenerator<StoredObject> {
  for (const { id, name, createdAt } of [...objects.values()]) yield { id, name, createdAt };
};

const rejected = (detail: string): StorageError =>
  new StorageError("provider_rejected", { detail, httpStatus: 404, retryable: false });

const refuseAborted = ({ signal }: StorageContext): void => {
  if (signal?.aborted === true) {
    throw new StorageError("provider_unavailable", {
      detail: "aborted by the caller",
      reason: "aborted",
      retryable: true,
    });
  }
};
