import type { ChatFiles } from "../attachments/chat-files-store.ts";
import type { CitableFile } from "../context/citations.ts";

/** Where the files of a model lie: its provider's storage, or that of the provider's `rag_provider`. */
export interface ModelStorage {
  /** The label stored on rows. */
  readonly backend: string;
  /** Our own database (docs/retrieval.md): the provider knows none of these files. */
  readonly local: boolean;
  /** Its search can be limited to some files (`supports_file_search_filters`). */
  readonly filters: boolean;
}

/** What of a chat's files one candidate model can read (policy.md §5). */
export interface ReadableFiles {
  /** The store its `file_search` looks into; null when there is nothing to search. */
  readonly vectorStoreId: string | null;
  /** The attachments it looks at; null for the whole store. */
  readonly searchedOnly: readonly string[] | null;
  /** There is something to search, and we search it. */
  readonly searchedHere: boolean;
  /** Provider file ids for its code interpreter, oldest first. */
  readonly codeFileIds: readonly string[];
}

/** Files a container takes: the newest ones (context.md §10). */
const maxContainerFiles = 20;

/** The files that lie where the model's provider reads; those of another backend are none of its. */
export const readableFiles = (files: ChatFiles, storage: ModelStorage | null): ReadableFiles => {
  const { documents, store } = files;
  const within = documents.filter(({ backend }) => backend === storage?.backend);
  const searchable =
    store !== null && store.backend === storage?.backend && within.some((one) => one.forFileSearch);
  if (storage?.local === true) {
    return { vectorStoreId: null, searchedOnly: null, searchedHere: searchable, codeFileIds: [] };
  }
  // Until its cleanup is done a deleted file is still in the store: nobody wants to be answered from it.
  const filtered = files.hasLeftovers && storage?.filters === true;
  return {
    vectorStoreId: searchable ? store.vectorStoreId : null,
    searchedOnly: filtered ? within.filter((one) => one.forFileSearch).map(({ id }) => id) : null,
    searchedHere: false,
    codeFileIds: within
      .filter((one) => one.forCodeInterpreter)
      .slice(0, maxContainerFiles)
      .map((one) => one.providerFileId)
      .reverse(),
  };
};

/** The table that file citations are mapped with (context.md §8.1), by provider file id. */
export const citableFiles = ({ documents }: ChatFiles): ReadonlyMap<string, CitableFile> =>
  new Map(
    documents.map(({ providerFileId, id, filename }) => [providerFileId, { attachmentId: id, filename }]),
  );
