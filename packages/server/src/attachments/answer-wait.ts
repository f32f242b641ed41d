import { AppError } from "../errors.ts";

/** How long the answer to a file that was sent is waited for when nobody waits for the upload, in ms. */
const answerMs = { left: 30_000, stopping: 3_000 } as const;

/**
 * Makes a call with a signal that fires with the given one, unless the provider has all it needs by then:
 * it may have kept the file, and only its answer tells as what. Then the call gets time for that, less in a
 * shutdown, which gives five seconds to all there is to end (ops.md §9).
 */
export const untilAnswered = async <T>(
  signal: AbortSignal | undefined,
  isSent: () => boolean,
  call: (signal: AbortSignal) => Promise<T>,
): Promise<T> => {
  const controller = new AbortController();
  if (signal === undefined) return call(controller.signal);
  let timer: NodeJS.Timeout | undefined;
  const onAbort = (): void => {
    const { reason } = signal;
    const isStopping = reason instanceof AppError && reason.code === "shutting_down";
    const ms = isStopping ? answerMs.stopping : answerMs.left;
    if (isSent()) timer = setTimeout(() => controller.abort(reason), ms);
    else controller.abort(reason);
  };
  signal.addEventListener("abort", onAbort, { once: true });
  if (signal.aborted) onAbort();
  try {
    return await call(controller.signal);
  } finally {
    signal.removeEventListener("abort", onAbort);
    clearTimeout(timer);
  }
};
