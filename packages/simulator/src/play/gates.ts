/** Named signals a stream can wait for instead of a time. A gate stays open until `reset`. */
export class Gates {
  readonly #open = new Set<string>();
  readonly #waiting = new Map<string, Set<() => void>>();
  readonly #arrivals = new Map<string, Set<() => void>>();

  /** Lets everyone through who waits here, and everyone who comes later. */
  open(name: string): void {
    this.#open.add(name);
    release(this.#waiting, name);
  }

  /** Resolves when the gate is open or `gone` resolves. */
  async pass(name: string, gone: Promise<unknown>): Promise<void> {
    if (this.#open.has(name)) return;
    const { promise, resolve } = Promise.withResolvers<void>();
    join(this.#waiting, name, resolve);
    release(this.#arrivals, name);
    await Promise.race([promise, gone]);
    this.#waiting.get(name)?.delete(resolve);
  }

  /** Resolves as soon as somebody waits at this gate, also when he does already. */
  arrived(name: string): Promise<void> {
    if ((this.#waiting.get(name)?.size ?? 0) > 0) return Promise.resolve();
    return new Promise((resolve) => join(this.#arrivals, name, resolve));
  }

  get openNames(): readonly string[] {
    return [...this.#open];
  }

  get waitingNames(): readonly string[] {
    return [...this.#waiting].filter(([, waiters]) => waiters.size > 0).map(([name]) => name);
  }

  /** Shuts every gate; who waits goes on waiting. */
  reset(): void {
    this.#open.clear();
  }
}

const join = (queues: Map<string, Set<() => void>>, name: string, resolve: () => void): void => {
  const queue = queues.get(name) ?? new Set();
  queue.add(resolve);
  queues.set(name, queue);
};

const release = (queues: Map<string, Set<() => void>>, name: string): void => {
  const queue = queues.get(name);
  queues.delete(name);
  for (const resolve of queue ?? []) resolve();
};
