/** Looks again at a chat whose answer could not be followed to its end, as long as somebody is there to see it. */
export interface Lookout {
  /** Looks at once, and again where it is asked for, until the result is called. */
  keep(): () => void;
  /** Looks again soon. */
  soon(): void;
  /** After a refusal: looks again after a pause, which doubles with each refusal, to half a minute. */
  afterPause(): void;
  /** The next pause is the shortest again. */
  reset(): void;
}

const shortestMs = 1_000;
const longestMs = 30_000;

export const createLookout = (look: () => void): Lookout => {
  let kept = false;
  let refusals = 0;
  let timer: ReturnType<typeof setTimeout> | undefined;

  const lookIn = (ms: number): void => {
    clearTimeout(timer);
    if (kept) timer = setTimeout(look, ms);
  };

  return {
    keep: () => {
      kept = true;
      refusals = 0;
      look();
      return () => {
        kept = false;
        clearTimeout(timer);
      };
    },
    soon: () => lookIn(0),
    afterPause: () => {
      const ms = Math.min(shortestMs * 2 ** refusals, longestMs);
      refusals += 1;
      lookIn(ms);
    },
    reset: () => {
      refusals = 0;
    },
  };
};
