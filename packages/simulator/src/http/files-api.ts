import type { StoredFile } from "../storage/files.ts";
import type { World } from "../world.ts";
import { ApiError, type Exchange, sendBytes, sendJson } from "./exchange.ts";
import { withFaults } from "./fault.ts";
import { page } from "./paging.ts";
import { readUpload } from "./upload.ts";

const LIST_LIMIT = 10_000;

/** The Files API (providers.md §9), in memory. */
export const filesApi = (world: World) => ({
  upload: (exchange: Exchange): Promise<void> =>
    withFaults(world, "upload", exchange, async () => {
      if (exchange.form === null) throw new ApiError(400, "invalid_form", "A multipart form is expected.");
      return fileView(await world.files.add(await readUpload(exchange.form)));
    }),

  list: (exchange: Exchange): Promise<void> =>
    withFaults(world, "list", exchange, () => {
      const { query } = exchange;
      const purpose = query.get("purpose");
      const shown = world.files.all.filter((file) => purpose === null || file.purpose === purpose);
      return page(shown, query, LIST_LIMIT, fileView);
    }),

  get: async ({ response, params }: Exchange): Promise<void> => {
    sendJson(response, 200, fileView(fileOf(world, params[0])));
  },

  content: async ({ response, params }: Exchange): Promise<void> => {
    const { contentType, bytes } = fileOf(world, params[0]);
    sendBytes(response, 200, contentType, bytes);
  },

  remove: (exchange: Exchange): Promise<void> =>
    withFaults(world, ["file_deletion", "deletion"], exchange, () => {
      const [id = ""] = exchange.params;
      world.stores.forget(id);
      return deletedView(world, "file", id, world.files.delete(id));
    }),
});

/** Answers a deletion; of something unknown as programmed (providers.md §11.1). */
export const deletedView = (world: World, object: string, id: string, deleted: boolean): object => {
  if (!deleted && world.behaviour.missingDeletes === "not_found") throw notFound(object, id);
  return { id, object, deleted };
};

export const notFound = (object: string, id: string): ApiError =>
  new ApiError(404, "not_found", `No such ${object} object: ${id}`);

const fileOf = (world: World, id = ""): StoredFile => {
  const file = world.files.get(id);
  if (file === null) throw notFound("file", id);
  return file;
};

const fileView = (file: StoredFile): object => ({
  id: file.id,
  object: "file",
  bytes: file.bytes.length,
  created_at: file.createdAt,
  filename: file.filename,
  purpose: file.purpose,
  status: "processed",
});
