import { sleep } from "../lib/sleep.ts";
import type { HandlerContext, Message, QueueHandler, Verdict } from "./message.ts";
import { errorText } from "./settle.ts";

/**
 * Positions of the messages to hand over of what was claimed. The first of a key that had failed goes
 * alone, as a probe; limits of the partition and of keys do the same for a while after a failure
 * (outbox-engine.md, Handlers).
 */
export const handedOver = (
  messages: readonly Message[],
  limit: number,
  limitOf: (orderKey: string) => number = () => Number.POSITIVE_INFINITY,
): number[] => {
  const taken = new Map<string, number>();
  const handed: number[] = [];
  for (const [at, { orderKey, parked }] of messages.entries()) {
    if (handed.length >= limit) break;
    const before = taken.get(orderKey) ?? 0;
    if (before >= (parked ? 1 : limitOf(orderKey))) continue;
    taken.set(orderKey, before + 1);
    handed.push(at);
  }
  return handed;
};

/** What a handler answered, or why it did not. */
export type HandlerOutcome =
  | { readonly kind: "answered"; readonly verdicts: readonly (Verdict | undefined)[] }
  | { readonly kind: "failed"; readonly error: string }
  /** Stopped by the signal, or left behind because it does not heed it. */
  | { readonly kind: "cut_off" };

/**
 * Runs a handler until it answers. One that does not heed the signal of its context within `graceMs` is
 * left behind. Never throws.
 */
export const runHandler = async (
  handler: QueueHandler,
  messages: readonly Message[],
  context: HandlerContext,
  graceMs = 100,
): Promise<HandlerOutcome> => {
  const answered = new AbortController();
  const overdue = overdueAfter(context.signal, answered.signal, graceMs);
  try {
    const verdicts = await Promise.race([handler(messages, context), overdue]);
    return verdicts === "overdue" ? { kind: "cut_off" } : { kind: "answered", verdicts };
  } catch (error) {
    return context.signal.aborted ? { kind: "cut_off" } : { kind: "failed", error: errorText(error) };
  } finally {
    answered.abort();
  }
};

const overdueAfter = (signal: AbortSignal, answered: AbortSignal, graceMs: number): Promise<"overdue"> =>
  new Promise((resolve) => {
    const late = (): void => {
      void sleep(graceMs, answered).then(() => resolve("overdue"));
    };
    if (signal.aborted) return late();
    signal.addEventListener("abort", late, { once: true });
    answered.addEventListener("abort", () => signal.removeEventListener("abort", late), { once: true });
  });

export interface PerMessageOptions {
  /** Keys handled at the same time. */
  readonly concurrency: number;
  /** Longest run of one message. */
  readonly maxMs: number;
  /** Kept back from what is left of the lease. */
  readonly reserveMs: number;
}

/**
 * A handler of batches from a handler of one message: messages of a key one after the other, keys
 * side by side. A message gets what remains of the lease less `reserveMs`, at most `maxMs`; running
 * out of it is a retry. None is started when less than half of the first one's time is left, so that
 * a slow neighbour does not count as a failure of this one, nor once a shutdown has begun.
 */
export const perMessage =
  (
    handle: (message: Message, signal: AbortSignal) => Promise<Verdict>,
    options: PerMessageOptions,
  ): QueueHandler =>
  async (messages, { signal, stopping, deadline }) => {
    const verdicts: (Verdict | undefined)[] = new Array(messages.length);
    const lastStart = performance.now() + (deadline - performance.now()) / 2;
    const keys = [...Map.groupBy(messages.keys(), (at) => messages[at]?.orderKey).values()];
    const runKey = async (positions: readonly number[]): Promise<void> => {
      for (const at of positions) {
        const message = messages[at];
        if (message === undefined || stopping.aborted || signal.aborted) return;
        if (performance.now() > lastStart) return;
        const verdict = await runOne(handle, message, signal, timeLeft(deadline, options));
        verdicts[at] = verdict;
        if (verdict === undefined || verdict.kind === "retry") return;
      }
    };
    const worker = async (): Promise<void> => {
      for (let key = keys.shift(); key !== undefined; key = keys.shift()) await runKey(key);
    };
    await Promise.all(Array.from({ length: Math.min(options.concurrency, keys.length) }, worker));
    return verdicts;
  };

const timeLeft = (deadline: number, { maxMs, reserveMs }: PerMessageOptions): number =>
  Math.max(1, Math.min(maxMs, deadline - performance.now() - reserveMs));

const runOne = async (
  handle: (message: Message, signal: AbortSignal) => Promise<Verdict>,
  message: Message,
  outer: AbortSignal,
  ms: number,
): Promise<Verdict | undefined> => {
  const timeout = new AbortController();
  const timer = setTimeout(() => timeout.abort(), ms);
  const signal = AbortSignal.any([outer, timeout.signal]);
  try {
    const aborted = new Promise<"aborted">((resolve) => {
      signal.addEventListener("abort", () => resolve("aborted"), { once: true });
    });
    const verdict = await Promise.race([handle(message, signal), aborted]);
    if (verdict !== "aborted") return verdict;
    return outer.aborted ? undefined : { kind: "retry", error: `timed out after ${Math.round(ms)} ms` };
  } catch (error) {
    if (outer.aborted) return undefined;
    if (timeout.signal.aborted) return { kind: "retry", error: `timed out after ${Math.round(ms)} ms` };
    return { kind: "retry", error: errorText(error) };
  } finally {
    clearTimeout(timer);
  }
};
