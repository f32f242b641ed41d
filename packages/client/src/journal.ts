/** What happened so far and what is to come, for any number of readers; each begins at the beginning. */
export interface Journal<T> extends AsyncIterable<T> {
  push(item: T): void;
  end(): void;
  /** The readers get what there is, then this error. */
  fail(error: unknown): void;
}

export const createJournal = <T>(): Journal<T> => {
  const items: T[] = [];
  let ending: { readonly error?: unknown } | null = null;
  let waiting: (() => void)[] = [];
  const wake = (): void => {
    const woken = waiting;
    waiting = [];
    for (const resume of woken) resume();
  };
  const close = (how: { readonly error?: unknown }): void => {
    ending ??= how;
    wake();
  };
  return {
    push: (item) => {
      items.push(item);
      wake();
    },
    end: () => close({}),
    fail: (error) => close({ error }),
    async *[Symbol.asyncIterator]() {
      for (let at = 0; ; ) {
        while (at < items.length) {
          const item = items[at];
          at += 1;
          if (item !== undefined) yield item;
        }
        if (ending !== null && "error" in ending) throw ending.error;
        if (ending !== null) return;
        await new Promise<void>((resolve) => waiting.push(resolve));
      }
    },
  };
};
