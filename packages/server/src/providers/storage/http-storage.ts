import { z } from "zod";
import {
  type FileStorage,
  type IndexStatus,
  type StorageContext,
  StorageError,
  type StoredObject,
  type VectorStores,
} from "../storage-contract.ts";
import type { StorageEndpoint, Upstream } from "../upstream.ts";
import { type StorageAnswer, type StorageRequest, storageCall, storageUpload } from "./call.ts";

/** Where an API keeps its files and vector stores (attachments.md §13). */
export interface PathShape {
  /** Such as `/v1`. */
  readonly base: string;
  /** Sent with every call. */
  readonly query: Readonly<Record<string, string>>;
}

/** The Files and Vector Stores APIs of OpenAI and Azure OpenAI (providers.md §9) over HTTP. */
export function httpStorage(
  shape: PathShape,
  upstreamFor: (context: StorageContext) => Upstream,
): { readonly files: FileStorage; readonly stores: VectorStores } {
  const pathOf = (segments: readonly string[], query: Readonly<Record<string, string>> = {}): string => {
    const search = new URLSearchParams({ ...query, ...shape.query }).toString();
    return `${shape.base}/${segments.map(encodeURIComponent).join("/")}${search === "" ? "" : `?${search}`}`;
  };
  const call = (context: StorageContext, request: StorageRequest): Promise<StorageAnswer> =>
    storageCall(upstreamFor(context), context, request);
  const remove = async (
    context: StorageContext,
    endpoint: StorageEndpoint,
    segments: readonly string[],
    ids: readonly string[],
  ): Promise<void> => {
    try {
      await call(context, { endpoint, method: "DELETE", path: pathOf(segments), ids, repeatable: true });
    } catch (error) {
      if (!isGone(error)) throw error;
    }
  };
  const list = (context: StorageContext, segment: string, query: Readonly<Record<string, string>>) =>
    listPages((after) =>
      call(context, {
        endpoint: "list",
        method: "GET",
        path: pathOf([segment], after === null ? query : { ...query, after }),
      }),
    );
  return {
    files: {
      upload: async (context, file) => {
        const answer = await storageUpload(upstreamFor(context), context, pathOf(["files"]), file);
        return { providerFileId: idOf(answer), bytes: answer.bytes };
      },
      delete: (context, id) => remove(context, "file_delete", ["files", id], [id]),
      list: (context) => list(context, "files", { purpose: "assistants", limit: "1000" }),
    },
    stores: {
      create: async (context) => {
        const path = pathOf(["vector_stores"]);
        return idOf(await call(context, { endpoint: "vector_store_create", method: "POST", path, json: {} }));
      },
      addFile: async (context, storeId, fileId, attributes) => {
        const path = pathOf(["vector_stores", storeId, "files"]);
        const json = { file_id: fileId, attributes };
        const ids = [storeId, fileId];
        return statusOf(
          await call(context, { endpoint: "vector_store_add", method: "POST", path, ids, json }),
        );
      },
      fileStatus: async (context, storeId, fileId) => {
        const path = pathOf(["vector_stores", storeId, "files", fileId]);
        try {
          const ids = [storeId, fileId];
          return statusOf(
            await call(context, {
              endpoint: "vector_store_poll",
              method: "GET",
              path,
              ids,
              repeatable: true,
            }),
          );
        } catch (error) {
          if (error instanceof StorageError && statusesWithoutRead.has(error.httpStatus)) return "unknown";
          throw error;
        }
      },
      removeFile: (context, storeId, fileId) =>
        remove(
          context,
          "vector_store_remove",
          ["vector_stores", storeId, "files", fileId],
          [storeId, fileId],
        ),
      delete: (context, storeId) =>
        remove(context, "vector_store_delete", ["vector_stores", storeId], [storeId]),
      list: (context) => list(context, "vector_stores", { limit: "100" }),
    },
  };
}

/** What is not there is deleted (providers.md §9.1). */
const isGone = (error: unknown): boolean =>
  error instanceof StorageError && (error.httpStatus === 404 || error.httpStatus === 410);

/** Answers of a provider that cannot be asked for the status, or not yet (attachments.md §8). */
const statusesWithoutRead = new Set<number | undefined>([404, 405]);

// What columns and events hold (data.md §2.4, outbox.md §4.2): an object under another id could not be deleted again.
const created = z.object({ id: z.string().regex(/^[\x21-\x7e]{1,128}$/) });

const idOf = (answer: StorageAnswer): string => {
  const parsed = created.safeParse(answer.body);
  if (!parsed.success) throw answer.unusable();
  return parsed.data.id;
};

const knownStatuses: readonly IndexStatus[] = ["completed", "in_progress", "failed", "cancelled"];

const indexed = z.object({
  status: z
    .string()
    .transform((status): IndexStatus => knownStatuses.find((known) => known === status) ?? "unknown"),
});

const statusOf = (answer: StorageAnswer): IndexStatus => {
  const parsed = indexed.safeParse(answer.body);
  if (!parsed.success) throw answer.unusable();
  return parsed.data.status;
};

const listed = z.object({
  data: z.array(
    z.object({
      id: z.string().min(1),
      // Files have `filename`, stores `name`, which is often null.
      filename: z.string().nullish(),
      name: z.string().nullish(),
      created_at: z.number(),
    }),
  ),
  has_more: z.boolean().default(false),
});

const listPages = async function* (
  read: (after: string | null) => Promise<StorageAnswer>,
): AsyncGenerator<StoredObject, void> {
  let after: string | null = null;
  for (;;) {
    const answer: StorageAnswer = await read(after);
    const parsed = listed.safeParse(answer.body);
    if (!parsed.success) throw answer.unusable();
    const { data, has_more: hasMore } = parsed.data;
    for (const { id, filename, name, created_at: createdAt } of data) {
      yield { id, name: filename ?? name ?? null, createdAt: new Date(createdAt * 1_000) };
    }
    const last = data.at(-1)?.id;
    // A provider that repeats itself must not keep the caller for ever.
    if (!hasMore || last === undefined || last === after) return;
    after = last;
  }
};
