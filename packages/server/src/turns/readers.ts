/** Channel on which the owner of a turn tells that its log has grown (turns.md §16.2). */
export const logChannel = "turn_log";

/** Channel on which readers tell the owner of a turn, wherever it runs, that there are some. */
export const readerChannel = "turn_reader";

/**
 * Wakes the readers of this process when the log of their turn grows, whoever writes it. Nobody is told
 * of a turn that has no readers elsewhere: such a notification would cost as much as an append. All of
 * it only saves time, since readers also poll.
 */
export class LogReaders {
  readonly #waiting = new Map<string, Set<() => void>>();
  /** Turns written here that are read elsewhere. */
  readonly #readElsewhere = new Set<string>();
  readonly #notify: (channel: string, turnId: string) => void;
  readonly #isWrittenHere: (turnId: string) => boolean;

  constructor(notify: (channel: string, turnId: string) => void, isWrittenHere: (turnId: string) => boolean) {
    this.#notify = notify;
    this.#isWrittenHere = isWrittenHere;
  }

  /** Calls `wake` whenever the log may have grown; returns how to stop. */
  enter(turnId: string, wake: () => void): () => void {
    const waiting = this.#waiting.get(turnId) ?? new Set();
    this.#waiting.set(turnId, waiting.add(wake));
    this.announce(turnId);
    return () => {
      waiting.delete(wake);
      if (waiting.size === 0) this.#waiting.delete(turnId);
    };
  }

  /** Asks the turn's owner to tell of appends; again while nothing was heard, as it may not have listened. */
  announce(turnId: string): void {
    if (!this.#isWrittenHere(turnId)) this.#notify(readerChannel, turnId);
  }

  /** The log of a turn written here has grown. */
  appended(turnId: string): void {
    this.onAppended(turnId);
    if (this.#readElsewhere.has(turnId)) this.#notify(logChannel, turnId);
  }

  /** The log of a turn written here has got its end. */
  ended(turnId: string): void {
    this.appended(turnId);
    this.#readElsewhere.delete(turnId);
  }

  /** A notification on `logChannel`. */
  onAppended(turnId: string): void {
    for (const wake of this.#waiting.get(turnId) ?? []) wake();
  }

  /** A notification on `readerChannel`. */
  onReader(turnId: string): void {
    if (this.#isWrittenHere(turnId)) this.#readElsewhere.add(turnId);
  }
}
