/** Coalesced wake-ups (outbox.md §7, outbox-engine.md). */

/** A flag with one waiter: any number of `raise()` before it looks cause one look. */
export interface Gate {
  raise(): void;
  /** Resolves once the flag is up or `ms` have passed, and takes it down. True when it was raised. */
  wait(ms: number): Promise<boolean>;
}

export const createGate = (): Gate => {
  let raised = false;
  let release: (() => void) | null = null;
  return {
    raise: () => {
      raised = true;
      release?.();
    },
    wait: async (ms) => {
      if (!raised && ms > 0) {
        await new Promise<void>((resolve) => {
          const timer = setTimeout(resolve, ms);
          release = () => {
            clearTimeout(timer);
            resolve();
          };
        });
        release = null;
      }
      const was = raised;
      raised = false;
      return was;
    },
  };
};

/**
 * Calls `send` at once, then at most once per `spacingMs`, with a last call for what came meanwhile:
 * leading and trailing edge.
 */
export const createThrottle = (send: () => void, spacingMs: () => number): { call(): void; stop(): void } => {
  let timer: NodeJS.Timeout | null = null;
  let again = false;
  const fire = (): void => {
    again = false;
    send();
    timer = setTimeout(() => {
      timer = null;
      if (again) fire();
    }, spacingMs());
    timer.unref();
  };
  return {
    call: () => {
      if (timer === null) fire();
      else again = true;
    },
    stop: () => {
      if (timer !== null) clearTimeout(timer);
      timer = null;
      again = false;
    },
  };
};
