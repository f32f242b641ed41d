import type { Message, QueueHandler, Verdict } from "./message.ts";
import { type PerMessageOptions, perMessage } from "./run.ts";

/** An event on its way out of the process. */
export interface Delivery {
  readonly queue: "usage" | "audit";
  /** The same on every attempt; receivers drop what they have seen (outbox.md §6). */
  readonly idempotencyKey: string;
  readonly messageId: string;
  readonly tenantId: string;
  /** JSON text, unchanged since it was enqueued; one line. */
  readonly payload: string;
  readonly trace: string | null;
}

/** Failing to publish: `transient` is tried again, `permanent` becomes a dead letter (policy.md §10). */
export class PublishError extends Error {
  override name = "PublishError";
  readonly kind: "transient" | "permanent";

  constructor(kind: "transient" | "permanent", message: string, cause?: unknown) {
    super(message, cause === undefined ? undefined : { cause });
    this.kind = kind;
  }
}

/** Where events go. */
export interface Sink {
  /**
   * Takes the deliveries in order, all or nothing; throws `PublishError`. Resolves only when they
   * would survive a crash of this process.
   */
  publish(deliveries: readonly Delivery[], signal: AbortSignal): Promise<void>;
  /** Deliveries it takes in one call: everything at hand, or one by one. */
  readonly grouping: "batch" | "single";
  close(): Promise<void>;
}

/** The verdict on an error of a sink or a plugin; what does not say `permanent` is worth another try. */
export const failureVerdict = (error: unknown): Verdict => {
  const text = error instanceof Error ? error.message : String(error);
  const permanent = (error as { kind?: unknown } | null)?.kind === "permanent";
  return permanent ? { kind: "reject", reason: text } : { kind: "retry", error: text };
};

/** Turns a message into what is published, or into a verdict where there is nothing to publish. */
export type Prepare = (message: Message) => Delivery | Verdict;

const isVerdict = (prepared: Delivery | Verdict): prepared is Verdict => "kind" in prepared;

/** A handler that publishes what `prepare` makes of each message; unreadable ones do not hold up the rest. */
export const sinkHandler = (sink: Sink, prepare: Prepare, options: PerMessageOptions): QueueHandler =>
  sink.grouping === "batch"
    ? (messages, { signal }) => publishGroup(sink, messages, prepare, signal)
    : perMessage(async (message, signal) => {
        const prepared = prepare(message);
        if (isVerdict(prepared)) return prepared;
        try {
          await sink.publish([prepared], signal);
          return { kind: "done" };
        } catch (error) {
          if (signal.aborted) throw error;
          return failureVerdict(error);
        }
      }, options);

const publishGroup = async (
  sink: Sink,
  messages: readonly Message[],
  prepare: Prepare,
  signal: AbortSignal,
): Promise<(Verdict | undefined)[]> => {
  const verdicts: (Verdict | undefined)[] = new Array(messages.length);
  const held = new Set<string>();
  const group: { readonly at: number; readonly delivery: Delivery }[] = [];
  for (const [at, message] of messages.entries()) {
    // Nothing of a key is published ahead of a message that will be tried again.
    if (held.has(message.orderKey)) continue;
    const prepared = prepare(message);
    if (!isVerdict(prepared)) group.push({ at, delivery: prepared });
    else {
      verdicts[at] = prepared;
      if (prepared.kind === "retry") held.add(message.orderKey);
    }
  }
  if (group.length === 0) return verdicts;
  let outcome: Verdict = { kind: "done" };
  try {
    await sink.publish(
      group.map(({ delivery }) => delivery),
      signal,
    );
  } catch (error) {
    outcome = failureVerdict(error);
  }
  for (const { at } of group) verdicts[at] = outcome;
  return verdicts;
};
