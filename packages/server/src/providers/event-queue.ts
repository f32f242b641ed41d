import type { ProviderEvent, ProviderOutcome, ProviderStream } from "./contract.ts";

/**
 * The reading side of a stream: gathers events until the consumer takes them, all at once. Ends with
 * exactly one `terminal`, after which nothing is taken in.
 */
export class EventQueue implements ProviderStream {
  readonly closed: Promise<void>;
  readonly #onLeft: () => void;
  readonly #onTaken: () => void;
  #gathered: ProviderEvent[] = [];
  #waiting: ((result: IteratorResult<readonly ProviderEvent[]>) => void) | null = null;
  #ended = false;
  #delivered = false;

  /**
   * `onTaken` is called when a batch was handed over, `onLeft` when the consumer stops before the
   * end. `closed` is the stream's.
   */
  constructor(closed: Promise<void>, onTaken: () => void, onLeft: () => void) {
    this.closed = closed;
    this.#onTaken = onTaken;
    this.#onLeft = onLeft;
  }

  /** Whether the terminal event was queued: further ones are ignored. */
  get ended(): boolean {
    return this.#ended;
  }

  /** Whether the consumer has everything there is. */
  get idle(): boolean {
    return this.#gathered.length === 0;
  }

  /** Takes over what one read brought; the array is the queue's from then on. */
  push(events: ProviderEvent[]): void {
    if (this.#ended || events.length === 0) return;
    if (this.#gathered.length === 0) this.#gathered = events;
    else this.#gathered.push(...events);
    this.#handOver();
  }

  /** Ends the stream. */
  end(outcome: ProviderOutcome): void {
    if (this.#ended) return;
    this.#ended = true;
    this.#gathered.push({ type: "terminal", outcome });
    this.#handOver();
  }

  /** Ends the stream as aborted, dropping what was not taken yet: even an end the consumer has not seen. */
  abort(started: boolean): void {
    if (this.#delivered) return;
    this.#gathered = [];
    this.#ended = false;
    this.end({ kind: "aborted", started });
  }

  [Symbol.asyncIterator](): AsyncIterator<readonly ProviderEvent[], undefined> {
    return {
      next: () =>
        new Promise((resolve) => {
          this.#waiting = resolve;
          if (this.#gathered.length > 0) this.#handOver();
          else if (this.#delivered) resolve({ done: true, value: undefined });
        }),
      return: async () => {
        if (!this.#delivered) this.#onLeft();
        this.#delivered = true;
        return { done: true, value: undefined };
      },
    };
  }

  #handOver(): void {
    const take = this.#waiting;
    if (take === null) return;
    const batch = this.#gathered;
    this.#gathered = [];
    this.#waiting = null;
    this.#delivered = this.#ended;
    take({ done: false, value: batch });
    this.#onTaken();
  }
}
