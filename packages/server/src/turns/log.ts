import type { TenantId } from "../auth/actor.ts";
import { type Db, sqlState } from "../db/pool.ts";
import type { Logger } from "../telemetry/log.ts";
import type { StreamEvent } from "./grammar.ts";
import { appendEvents, findLoggedEvent, type LoggedEvent, type LogTail } from "./log-store.ts";

export interface LogDeps {
  readonly db: Db;
  readonly logger: Logger;
  /** Tells the readers of this turn, wherever they are, that its log has grown. */
  readonly appended: (turnId: string) => void;
}

/** turns.md §16.2: deltas are held back for this time or this much text, the first of them not at all. */
const flushMs = 250;
const flushBytes = 2_048;

/** A failed append is tried again after this time. */
const retryMs = 500;

/**
 * The writer of a resumable turn's log (turns.md §16.2), of which a turn has exactly one. Events go in
 * as they come from the provider and come out merged, with their places, once they stand in the log:
 * nobody is shown what could not be resumed from. One append is under way at a time. While the database
 * is away events wait here, at most as much as the answer itself holds, and transaction 2 takes them.
 */
export class TurnLog {
  readonly #deps: LogDeps;
  readonly #turn: { readonly id: string; readonly tenantId: TenantId };
  #nextSeq = 1;
  /** Merged, without a place yet. */
  #pending: StreamEvent[] = [];
  #pendingBytes = 0;
  /** Given to an append whose success is not known; never changed again. */
  #batch: readonly LoggedEvent[] = [];
  /** Appended, not yet taken. */
  #ready: LoggedEvent[] = [];
  #writing: Promise<void> | null = null;
  #dueAt = 0;
  #failing = false;
  #timer: NodeJS.Timeout | undefined;
  #state: "open" | "closing" | "lost" = "open";
  #wake: () => void = () => {};

  constructor(deps: LogDeps, turn: { readonly id: string; readonly tenantId: TenantId }) {
    this.#deps = deps;
    this.#turn = turn;
  }

  /** Takes events in; they are appended at once or soon. */
  add(events: readonly StreamEvent[]): void {
    if (this.#state !== "open") return;
    for (const event of events) this.#merge(event);
    this.#flushWhenDue();
  }

  /** Resolves when there is something to take. */
  grown(): Promise<void> {
    if (this.#ready.length > 0) return Promise.resolve();
    return new Promise((resolve) => {
      this.#wake = resolve;
    });
  }

  /** What was appended since the last call, in order. */
  take(): readonly LoggedEvent[] {
    return this.#ready.splice(0);
  }

  /** Resolves when no append is under way. */
  async quiet(): Promise<void> {
    while (this.#writing !== null) await this.#writing;
  }

  /**
   * Ends the appending. Returns what has a place and may not be in the log yet, for transaction 2 to
   * write; behind it the caller writes the end of the stream.
   */
  async close(): Promise<LogTail> {
    if (this.#state === "open") this.#state = "closing";
    clearTimeout(this.#timer);
    await this.quiet();
    const events = [...this.#batch, ...this.#place(true)];
    return { events, nextSeq: this.#nextSeq };
  }

  #merge(event: StreamEvent): void {
    if (event.event !== "delta") {
      this.#pending.push(event);
      return;
    }
    const { type, content } = event.data;
    this.#pendingBytes += Buffer.byteLength(content);
    const last = this.#pending.at(-1);
    if (last?.event !== "delta" || last.data.type !== type) this.#pending.push(event);
    else
      this.#pending.splice(-1, 1, { event: "delta", data: { type, content: last.data.content + content } });
  }

  /** Gives places to what is pending. Half a character at the end waits for its other half. */
  #place(all: boolean): readonly LoggedEvent[] {
    const events = this.#pending;
    this.#pending = [];
    this.#pendingBytes = 0;
    const last = events.at(-1);
    if (!all && last?.event === "delta" && /[\ud800-\udbff]$/.test(last.data.content)) {
      const { type, content } = last.data;
      const rest = { event: "delta", data: { type, content: content.slice(-1) } } as const;
      this.#merge(rest);
      events.splice(
        -1,
        1,
        ...(content.length > 1 ? [{ ...last, data: { type, content: content.slice(0, -1) } }] : []),
      );
    }
    return events.map((event) => {
      const seq = this.#nextSeq;
      this.#nextSeq += 1;
      return { ...wellFormed(event), seq };
    });
  }

  #flushWhenDue(): void {
    if (this.#writing !== null || this.#state !== "open") return;
    if (this.#batch.length === 0 && this.#pending.length === 0) return;
    const now = performance.now();
    const full = this.#batch.length === 0 && this.#pendingBytes >= flushBytes;
    if (!full && now < this.#dueAt) {
      this.#timer ??= setTimeout(() => this.#onTimer(), this.#dueAt - now + 1);
      return;
    }
    clearTimeout(this.#timer);
    this.#timer = undefined;
    if (this.#batch.length === 0) this.#batch = this.#place(false);
    if (this.#batch.length > 0) this.#writing = this.#write();
  }

  #onTimer(): void {
    this.#timer = undefined;
    this.#flushWhenDue();
  }

  async #write(): Promise<void> {
    this.#dueAt = performance.now() + flushMs;
    try {
      await appendEvents(this.#deps.db, this.#turn, this.#batch);
      this.#confirm();
    } catch (error) {
      await this.#onFailure(error);
    } finally {
      this.#writing = null;
      this.#flushWhenDue();
    }
  }

  #confirm(): void {
    this.#ready.push(...this.#batch);
    this.#batch = [];
    this.#failing = false;
    this.#deps.appended(this.#turn.id);
    this.#wake();
  }

  async #onFailure(error: unknown): Promise<void> {
    const ids = { turn_id: this.#turn.id };
    this.#dueAt = performance.now() + retryMs;
    if (sqlState(error)?.startsWith("23") !== true) {
      if (!this.#failing) this.#deps.logger.warn({ err: error, ...ids }, "turn log not written, tried again");
      this.#failing = true;
      return;
    }
    // The place is taken: by an append of ours whose answer was lost, or by the end of the turn.
    const [first] = this.#batch;
    const found = await findLoggedEvent(this.#deps.db, this.#turn, first?.seq ?? 0).catch(() => undefined);
    if (found === undefined) return;
    if (found === first?.event) return this.#confirm();
    this.#state = "lost";
    this.#deps.logger.warn({ err: error, ...ids }, "turn log was closed by another process");
  }
}

const wellFormed = (event: StreamEvent): StreamEvent =>
  event.event === "delta" && !event.data.content.isWellFormed()
    ? { event: "delta", data: { type: event.data.type, content: event.data.content.toWellFormed() } }
    : event;

/**
 * Passes a turn's events through its log: yields them merged, with their places, as they are appended,
 * and returns what the source returns. What is not appended by then is left in the log, to be closed.
 */
export async function* throughLog<Terminal>(
  log: TurnLog,
  source: AsyncGenerator<readonly StreamEvent[], Terminal, void>,
): AsyncGenerator<readonly StreamEvent[], Terminal, void> {
  let first = true;
  for (let next = source.next(); ; ) {
    // A batch and an append may come at the same time; the promise of the batch is asked again then.
    const got = await Promise.race([next, log.grown()]);
    const appended = log.take();
    if (appended.length > 0) yield appended;
    if (got === undefined) continue;
    if (got.done === true) return got.value;
    log.add(got.value);
    if (first) {
      // The provider is not asked for more before the first token is out: its way is measured.
      first = false;
      await log.quiet();
      const shown = log.take();
      if (shown.length > 0) yield shown;
    }
    next = source.next();
  }
}
