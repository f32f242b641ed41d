import { done, type Message, type QueueHandler, type Verdict } from "./message.ts";
import { type PerMessageOptions, perMessage } from "./run.ts";
import { storableError } from "./settle.ts";

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
  /** Of a transient one: when to try again, instead of the back-off. */
  retryAfterMs: number | undefined;

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

const isPermanent = (error: unknown): boolean =>
  typeof error === "object" && error !== null && "kind" in error && error.kind === "permanent";

/** The verdict on an error of a sink or a plugin; what does not say `permanent` is worth another try. */
export const failureVerdict = (error: unknown): Verdict => {
  const text = storableError(error instanceof Error ? error.message : String(error));
  if (isPermanent(error)) return { kind: "reject", reason: text };
  const afterMs = error instanceof PublishError ? error.retryAfterMs : undefined;
  return { kind: "retry", error: text, ...(afterMs === undefined ? {} : { afterMs }) };
};

/** Turns a message into what is published, or into a verdict where there is nothing to publish. */
export type Prepare = (message: Message) => Delivery | Verdict;

const isVerdict = (prepared: Delivery | Verdict): prepared is Verdict => "kind" in prepared;

/** A handler that publishes what `prepare` makes of each message; unreadable ones do not hold up the rest. */
export const sinkHandler = (sink: Sink, prepare: Prepare, options: PerMessageOptions): QueueHandler => {
  const single = perMessage(async (message, signal) => {
    const prepared = prepare(message);
    if (isVerdict(prepared)) return prepared;
    try {
      await sink.publish([prepared], signal);
      return done;
    } catch (error) {
      if (signal.aborted) throw error;
      return failureVerdict(error);
    }
  }, options);
  if (sink.grouping === "single") return single;
  return async (messages, context) => {
    const grouped = await publishGroup(sink, messages, prepare, context.signal);
    // One event the receiver will never take must not take the others with it: it is found one by one.
    return grouped === "refused" ? single(messages, context) : grouped;
  };
};

const publishGroup = async (
  sink: Sink,
  messages: readonly Message[],
  prepare: Prepare,
  signal: AbortSignal,
): Promise<(Verdict | undefined)[] | "refused"> => {
  const verdicts: (Verdict | undefined)[] = new Array(messages.length);
  const held = new Set<string>();
  const group: { readonly at: number; readonly orderKey: string; readonly delivery: Delivery }[] = [];
  for (const [at, message] of messages.entries()) {
    const { orderKey } = message;
    // Nothing of a key is published ahead of a message that will be tried again.
    if (held.has(orderKey)) continue;
    const prepared = prepare(message);
    if (!isVerdict(prepared)) group.push({ at, orderKey, delivery: prepared });
    else {
      verdicts[at] = prepared;
      if (prepared.kind === "retry") held.add(orderKey);
    }
  }
  if (group.length === 0) return verdicts;
  try {
    await sink.publish(
      group.map(({ delivery }) => delivery),
      signal,
    );
    for (const { at } of group) verdicts[at] = done;
  } catch (error) {
    if (signal.aborted) throw error;
    if (group.length > 1 && isPermanent(error)) return "refused";
    const outcome = failureVerdict(error);
    const told = new Set<string>();
    for (const { at, orderKey } of group) {
      if (!told.has(orderKey)) verdicts[at] = outcome;
      told.add(orderKey);
    }
  }
  return verdicts;
};
