import type { HandlerContext, Message, QueueHandler, Verdict } from "../outbox/message.ts";
import { errorText } from "../outbox/settle.ts";

/** What one message may use of the run it is part of. */
export interface CleanupRun {
  /** The lease is lost, or the shutdown is over: what is done no longer counts. */
  readonly signal: AbortSignal;
  /** No further provider call is to be begun: a shutdown has begun, or the time of one message is used up. */
  readonly isOver: () => boolean;
  /** Gives `call` a signal that ends it in time, with a lease that lasts as long. Throws when the lease is lost. */
  readonly timed: <T>(call: (signal: AbortSignal) => Promise<T>) => Promise<T>;
}

/** The lease was lost: somebody else may be at it already. */
export class LeaseLostError extends Error {
  override name = "LeaseLostError";
}

/** Longest call with its retries: shorter than a lease, so that one that hangs is counted as failed. */
const callMs = 20_000;
/** Kept for writing down what became of a call. */
const reserveMs = 2_000;
/** A message with very many files lets its neighbours have their turn. */
const budgetMs = 60_000;

/**
 * A handler of messages whose provider calls may together take longer than one lease: the lease is renewed
 * before a call that would not fit. Keys side by side, `concurrency` of them; messages of a key one after
 * the other.
 */
export const cleanupHandler =
  (
    handle: (message: Message, run: CleanupRun) => Promise<Verdict | undefined>,
    concurrency: number,
  ): QueueHandler =>
  async (messages, context) => {
    const verdicts: (Verdict | undefined)[] = new Array(messages.length);
    const timed = timedCalls(context);
    const keys = [...Map.groupBy(messages.keys(), (at) => messages[at]?.orderKey).values()];
    const runKey = async (positions: readonly number[]): Promise<void> => {
      for (const at of positions) {
        const message = messages[at];
        if (message === undefined || context.stopping.aborted || context.signal.aborted) return;
        const verdict = await runOne(handle, message, runOf(context, timed));
        verdicts[at] = verdict;
        if (verdict === undefined || verdict.kind === "retry") return;
      }
    };
    const worker = async (): Promise<void> => {
      for (let key = keys.shift(); key !== undefined; key = keys.shift()) await runKey(key);
    };
    await Promise.all(Array.from({ length: Math.min(concurrency, keys.length) }, worker));
    return verdicts;
  };

const runOf = ({ signal, stopping }: HandlerContext, timed: CleanupRun["timed"]): CleanupRun => {
  const until = performance.now() + budgetMs;
  return { signal, timed, isOver: () => stopping.aborted || signal.aborted || performance.now() > until };
};

const runOne = async (
  handle: (message: Message, run: CleanupRun) => Promise<Verdict | undefined>,
  message: Message,
  run: CleanupRun,
): Promise<Verdict | undefined> => {
  try {
    return await handle(message, run);
  } catch (error) {
    if (run.signal.aborted || error instanceof LeaseLostError) return undefined;
    return { kind: "retry", error: errorText(error) };
  }
};

const timedCalls = (context: HandlerContext): CleanupRun["timed"] => {
  let renewing: Promise<boolean> | null = null;
  const renew = (): Promise<boolean> => {
    renewing ??= context.renew().finally(() => {
      renewing = null;
    });
    return renewing;
  };
  const left = (): number => context.deadline - performance.now();
  return async (call) => {
    if (left() < callMs + reserveMs && !(await renew())) throw new LeaseLostError();
    const ms = Math.floor(Math.max(1, Math.min(callMs, left() - reserveMs)));
    return call(AbortSignal.any([context.signal, AbortSignal.timeout(ms)]));
  };
};
