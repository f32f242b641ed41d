import { isRecord } from "../scenario/checks.ts";
import { search } from "../storage/search.ts";
import { addToStore, type IndexedFile, poll, type VectorStore } from "../storage/vector-stores.ts";
import type { World } from "../world.ts";
import { ApiError, type Exchange, parseJson, sendJson } from "./exchange.ts";
import { withFaults } from "./fault.ts";
import { deletedView, notFound } from "./files-api.ts";
import { page } from "./paging.ts";
import { searchPage, storeFileView, storeView } from "./vector-store-views.ts";

const LIST_LIMIT = 20;
const SEARCH_LIMIT = 10;

/** The Vector Stores API (providers.md §9), in memory. */
export const vectorStoresApi = (world: World) => ({
  create: (exchange: Exchange): Promise<void> =>
    withFaults(world, "store_creation", exchange, () => {
      const { name, metadata, file_ids: fileIds } = bodyOf(exchange);
      const ids = Array.isArray(fileIds) ? fileIds.map((id) => knownFileId(world, id)) : [];
      const store = world.stores.create(
        typeof name === "string" ? name : null,
        isRecord(metadata) ? metadata : {},
      );
      for (const id of ids) addToStore(store, id, {}, world.behaviour.indexing);
      return storeView(world, store);
    }),

  list: (exchange: Exchange): Promise<void> =>
    withFaults(world, "list", exchange, () => {
      const view = (store: VectorStore): object => storeView(world, store);
      return page(world.stores.all, exchange.query, LIST_LIMIT, view);
    }),

  get: async (exchange: Exchange): Promise<void> => {
    sendJson(exchange.response, 200, storeView(world, storeOf(world, exchange)));
  },

  remove: (exchange: Exchange): Promise<void> =>
    withFaults(world, ["store_deletion", "deletion"], exchange, () => {
      const [id = ""] = exchange.params;
      return deletedView(world, "vector_store.deleted", id, world.stores.delete(id));
    }),

  addFile: (exchange: Exchange): Promise<void> =>
    withFaults(world, "indexing", exchange, () => {
      const store = storeOf(world, exchange);
      const { file_id: fileId, attributes } = bodyOf(exchange);
      const id = knownFileId(world, fileId);
      const added = addToStore(store, id, isRecord(attributes) ? attributes : {}, world.behaviour.indexing);
      return storeFileView(world, added);
    }),

  listFiles: async (exchange: Exchange): Promise<void> => {
    const files = [...storeOf(world, exchange).files.values()];
    const view = (file: IndexedFile): object => storeFileView(world, file);
    sendJson(exchange.response, 200, page(files, exchange.query, LIST_LIMIT, view));
  },

  getFile: (exchange: Exchange): Promise<void> =>
    withFaults(world, "poll", exchange, () => {
      const [, id = ""] = exchange.params;
      const file = storeOf(world, exchange).files.get(id);
      if (file === undefined) throw notFound("vector_store.file", id);
      return storeFileView(world, poll(file));
    }),

  removeFile: (exchange: Exchange): Promise<void> =>
    withFaults(world, ["removal", "deletion"], exchange, () => {
      const [storeId = "", id = ""] = exchange.params;
      const deleted = world.stores.get(storeId)?.files.delete(id) ?? false;
      return deletedView(world, "vector_store.file.deleted", id, deleted);
    }),

  search: async (exchange: Exchange): Promise<void> => {
    const store = storeOf(world, exchange);
    const body = bodyOf(exchange);
    const queries = (Array.isArray(body["query"]) ? body["query"] : [body["query"]]).filter(
      (query: unknown) => typeof query === "string",
    );
    if (queries.length === 0) throw new ApiError(400, "missing_required_parameter", "query is missing");
    const ranking = isRecord(body["ranking_options"]) ? body["ranking_options"] : {};
    const hits = search(store, world.files, {
      query: queries.join(" "),
      filter: body["filters"],
      maxResults: numberOr(body["max_num_results"], SEARCH_LIMIT),
      minScore: numberOr(ranking["score_threshold"] ?? body["score_threshold"], 0),
    });
    sendJson(exchange.response, 200, searchPage(queries, hits));
  },
});

const bodyOf = ({ body }: Exchange): Record<string, unknown> => {
  if (body.length === 0) return {};
  const value = parseJson(body);
  if (!isRecord(value)) throw new ApiError(400, "invalid_json", "The request body must be an object.");
  return value;
};

const storeOf = (world: World, { params }: Exchange): VectorStore => {
  const [id = ""] = params;
  const store = world.stores.get(id);
  if (store === null) throw notFound("vector_store", id);
  return store;
};

const knownFileId = (world: World, id: unknown): string => {
  if (typeof id !== "string") throw new ApiError(400, "missing_required_parameter", "file_id is missing");
  if (world.files.get(id) === null) throw notFound("file", id);
  return id;
};

const numberOr = (value: unknown, otherwise: number): number =>
  typeof value === "number" ? value : otherwise;
