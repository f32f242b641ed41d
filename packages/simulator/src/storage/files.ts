import { readText } from "./text.ts";

/** A file somebody uploaded. */
export interface StoredFile {
  readonly id: string;
  readonly bytes: Buffer;
  readonly filename: string;
  readonly purpose: string;
  readonly contentType: string;
  /** What a search reads. */
  readonly text: string;
  /** Seconds since 1970. */
  readonly createdAt: number;
}

/** The uploaded files, in order. Ids are `file-mock-{n}`. */
export class Files {
  readonly #files = new Map<string, StoredFile>();
  #uploads: string[] = [];

  async add(file: Omit<StoredFile, "id" | "createdAt" | "text">): Promise<StoredFile> {
    const id = `file-mock-${this.#uploads.length + 1}`;
    this.#uploads.push(id);
    const stored = { ...file, id, text: await readText(file), createdAt: nowInSeconds() };
    this.#files.set(id, stored);
    return stored;
  }

  get(id: string): StoredFile | null {
    return this.#files.get(id) ?? null;
  }

  /** Id of the n-th upload, from 1, deleted or not; null when there was none. */
  uploadedId(n: number): string | null {
    return this.#uploads[n - 1] ?? null;
  }

  delete(id: string): boolean {
    return this.#files.delete(id);
  }

  get all(): readonly StoredFile[] {
    return [...this.#files.values()];
  }

  reset(): void {
    this.#files.clear();
    this.#uploads = [];
  }
}

export const nowInSeconds = (): number => Math.floor(Date.now() / 1_000);
