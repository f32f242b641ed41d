import { shuttingDown } from "../errors.ts";

/** The uploads of this process: what a drain waits for and stops (ops.md §9). Bookkeeping only. */
export class RunningUploads {
  readonly #uploads = new Set<AbortController>();
  #onEmpty: (() => void)[] = [];
  #stopped = false;

  get size(): number {
    return this.#uploads.size;
  }

  /** Enters an upload until it is told to have ended; aborting the controller ends it early. */
  begin(): { readonly controller: AbortController; readonly end: () => void } {
    const controller = new AbortController();
    if (this.#stopped) controller.abort(shuttingDown());
    this.#uploads.add(controller);
    return {
      controller,
      end: () => {
        this.#uploads.delete(controller);
        if (this.#uploads.size === 0) for (const tell of this.#onEmpty.splice(0)) tell();
      },
    };
  }

  /** Resolves when no upload is under way. */
  empty(): Promise<void> {
    return this.#uploads.size === 0
      ? Promise.resolve()
      : new Promise((resolve) => {
          this.#onEmpty.push(resolve);
        });
  }

  /** Ends every upload as `upload_interrupted`, those that come later too. */
  stopAll(): void {
    this.#stopped = true;
    for (const controller of this.#uploads) controller.abort(shuttingDown());
  }
}
