import type { readEventsAfter } from "./log-store.ts";

/** Channel on which the owner of a turn tells that its log has grown (turns.md §16.2). */
export const logChannel = "turn_log";

/** Channel on which readers tell the owner of a turn, wherever it runs, that there are some. */
export const readerChannel = "turn_reader";

/** An owner that hears nothing of readers is told of them this often at most, however many they are. */
const announceMs = 400;

/** What a look into a log brings. */
export type LogPage = Awaited<ReturnType<typeof readEventsAfter>>;

/** The readers of one turn in this process. */
interface Audience {
  readonly wakes: Set<() => void>;
  /** Looks under way, by the place behind which they look. */
  readonly looks: Map<number, Promise<LogPage>>;
  announcedAt: number;
}

/**
 * Wakes the readers of this process when the log of their turn grows, whoever writes it. Nobody is told
 * of a turn that has no readers elsewhere: such a notification would cost as much as an append. All of
 * it only saves time, since readers also poll.
 */
export class LogReaders {
  readonly #audiences = new Map<string, Audience>();
  /** Turns written here that are read elsewhere. */
  readonly #readElsewhere = new Set<string>();
  readonly #notify: (channel: string, turnId: string) => void;
  readonly #isWrittenHere: (turnId: string) => boolean;

  constructor(notify: (channel: string, turnId: string) => void, isWrittenHere: (turnId: string) => boolean) {
    this.#notify = notify;
    this.#isWrittenHere = isWrittenHere;
  }

  /** Readers in this process. */
  get size(): number {
    let size = 0;
    for (const { wakes } of this.#audiences.values()) size += wakes.size;
    return size;
  }

  /** Calls `wake` whenever the log may have grown; returns how to stop, which may be called again. */
  enter(turnId: string, wake: () => void): () => void {
    const audience = this.#audiences.get(turnId) ?? {
      wakes: new Set(),
      looks: new Map(),
      announcedAt: Number.NEGATIVE_INFINITY,
    };
    this.#audiences.set(turnId, audience);
    audience.wakes.add(wake);
    this.announce(turnId);
    return () => {
      if (audience.wakes.delete(wake) && audience.wakes.size === 0) this.#audiences.delete(turnId);
    };
  }

  /** Asks the turn's owner to tell of appends; again while nothing was heard, as it may not have listened. */
  announce(turnId: string): void {
    const audience = this.#audiences.get(turnId);
    const now = performance.now();
    if (audience === undefined || now - audience.announcedAt < announceMs) return;
    audience.announcedAt = now;
    if (!this.#isWrittenHere(turnId)) this.#notify(readerChannel, turnId);
  }

  /**
   * What stands behind a place of the log: readers who wait at the same one share a look, so that a turn
   * costs the database no more for having many. None is given a look that began before the last append.
   */
  look(turnId: string, after: number, read: () => Promise<LogPage>): Promise<LogPage> {
    const looks = this.#audiences.get(turnId)?.looks;
    const underWay = looks?.get(after);
    if (underWay !== undefined) return underWay;
    const looking = read().finally(() => {
      if (looks?.get(after) === looking) looks.delete(after);
    });
    looks?.set(after, looking);
    return looking;
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
    const audience = this.#audiences.get(turnId);
    audience?.looks.clear();
    for (const wake of audience?.wakes ?? []) wake();
  }

  /** A notification on `readerChannel`. */
  onReader(turnId: string): void {
    if (this.#isWrittenHere(turnId)) this.#readElsewhere.add(turnId);
  }
}
