import { nowInSeconds } from "./files.ts";

export const indexingStatuses = ["completed", "in_progress", "failed", "cancelled"] as const;
export type IndexingStatus = (typeof indexingStatuses)[number];

/** How a file that is added comes to be indexed. */
export interface Indexing {
  /** What indexing ends with. */
  readonly status: IndexingStatus;
  /** So many status reads answer `in_progress` first; the answer to adding it does too. */
  readonly polls: number;
}

export interface IndexedFile {
  readonly id: string;
  readonly storeId: string;
  readonly attributes: Readonly<Record<string, unknown>>;
  readonly createdAt: number;
  /** The status now. */
  status: IndexingStatus;
  readonly finalStatus: IndexingStatus;
  pollsLeft: number;
}

export interface VectorStore {
  readonly id: string;
  readonly name: string | null;
  readonly metadata: Readonly<Record<string, unknown>>;
  readonly createdAt: number;
  readonly files: Map<string, IndexedFile>;
}

/** The vector stores, in order. Ids are `vs_mock_{n}`. */
export class VectorStores {
  readonly #stores = new Map<string, VectorStore>();
  #lastNumber = 0;

  create(name: string | null, metadata: Readonly<Record<string, unknown>>): VectorStore {
    this.#lastNumber += 1;
    const id = `vs_mock_${this.#lastNumber}`;
    const store: VectorStore = { id, name, metadata, createdAt: nowInSeconds(), files: new Map() };
    this.#stores.set(store.id, store);
    return store;
  }

  get(id: string): VectorStore | null {
    return this.#stores.get(id) ?? null;
  }

  delete(id: string): boolean {
    return this.#stores.delete(id);
  }

  get all(): readonly VectorStore[] {
    return [...this.#stores.values()];
  }

  /** A deleted file leaves every store. */
  forget(fileId: string): void {
    for (const store of this.#stores.values()) store.files.delete(fileId);
  }

  reset(): void {
    this.#stores.clear();
    this.#lastNumber = 0;
  }
}

/** Adds the file, or anew if it is in already. */
export const addToStore = (
  store: VectorStore,
  id: string,
  attributes: Readonly<Record<string, unknown>>,
  { status, polls }: Indexing,
): IndexedFile => {
  const file: IndexedFile = {
    id,
    storeId: store.id,
    attributes,
    createdAt: nowInSeconds(),
    status: polls > 0 ? "in_progress" : status,
    finalStatus: status,
    pollsLeft: polls,
  };
  store.files.set(id, file);
  return file;
};

/** One status read: the programmed number of them answers `in_progress`. */
export const poll = (file: IndexedFile): IndexedFile => {
  if (file.pollsLeft > 0) file.pollsLeft -= 1;
  else file.status = file.finalStatus;
  return file;
};
