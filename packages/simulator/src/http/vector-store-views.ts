import type { SearchHit } from "../storage/search.ts";
import { type IndexedFile, indexingStatuses, type VectorStore } from "../storage/vector-stores.ts";
import type { World } from "../world.ts";

export const storeView = (world: World, store: VectorStore): object => {
  const files = [...store.files.values()];
  const counts = indexingStatuses.map((status) => [
    status,
    files.filter((file) => file.status === status).length,
  ]);
  return {
    id: store.id,
    object: "vector_store",
    created_at: store.createdAt,
    name: store.name,
    usage_bytes: files.reduce((sum, file) => sum + bytesOf(world, file), 0),
    file_counts: { ...Object.fromEntries(counts), total: files.length },
    status: files.some((file) => file.status === "in_progress") ? "in_progress" : "completed",
    last_active_at: store.createdAt,
    metadata: store.metadata,
  };
};

export const storeFileView = (world: World, file: IndexedFile): object => ({
  id: file.id,
  object: "vector_store.file",
  usage_bytes: bytesOf(world, file),
  created_at: file.createdAt,
  vector_store_id: file.storeId,
  status: file.status,
  last_error:
    file.status === "failed" ? { code: "server_error", message: "The file cannot be indexed." } : null,
  attributes: file.attributes,
});

export const searchPage = (queries: readonly string[], hits: readonly SearchHit[]): object => ({
  object: "vector_store.search_results.page",
  search_query: queries,
  data: hits.map(({ file, attributes, score, text }) => ({
    file_id: file.id,
    filename: file.filename,
    score,
    attributes,
    content: [{ type: "text", text }],
  })),
  has_more: false,
  next_page: null,
});

const bytesOf = (world: World, file: IndexedFile): number => world.files.get(file.id)?.bytes.length ?? 0;
