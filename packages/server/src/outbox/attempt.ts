import type { Metrics } from "../telemetry/metrics.ts";
import type { Held } from "./held.ts";
import type { Limits } from "./limits.ts";
import type { HandlerContext, QueueHandler, Verdict } from "./message.ts";
import { handedOver, runHandler } from "./run.ts";
import { finalVerdict } from "./settle.ts";

export interface AttemptOptions {
  readonly metrics: Metrics;
  readonly limits: Limits;
  /** A shutdown has begun: no further message is started. */
  readonly stopping: AbortSignal;
  /** The shutdown is over: what runs is cut off. */
  readonly cut: AbortSignal;
  /** Leases the partition anew; false when the lease was lost. */
  readonly renew: (held: Held) => Promise<boolean>;
}

export interface Attempt {
  /** Parallel to what was claimed. */
  readonly verdicts: readonly (Verdict | undefined)[];
  /** The handler threw or was cut off, by whichever of its messages. */
  readonly failed: boolean;
}

// A head claimed this often without an answer takes its workers down: its neighbours are served before
// it is tried again.
const crashesBeforeParking = 2;

/** What is handed over of a leased partition, and the verdicts that need no handler. */
export const selected = (
  held: Held,
  limits: Limits,
): { readonly handed: readonly number[]; readonly verdicts: (Verdict | undefined)[] } => {
  const verdicts: (Verdict | undefined)[] = new Array(held.messages.length);
  const handed: number[] = [];
  for (const at of positions(held, limits)) {
    const beforehand = crashVerdict(held, at);
    if (beforehand === undefined) handed.push(at);
    else verdicts[at] = beforehand;
  }
  return { handed, verdicts };
};

/** Gives a leased partition's messages to their handler, as many as the limits allow. Never throws. */
export const attempt = async (
  held: Held,
  handler: QueueHandler,
  options: AttemptOptions,
): Promise<Attempt> => {
  const { settings } = held.queue;
  if (options.stopping.aborted) return { verdicts: new Array(held.messages.length), failed: false };
  const { handed, verdicts } = selected(held, options.limits);
  const [first] = handed;
  if (first === undefined) return { verdicts, failed: false };
  const { kind } = settings;
  options.metrics.count("outbox_claimed", { kind }, handed.length);
  const startedAt = performance.now();
  const messages = handed.flatMap((at) => held.messages[at] ?? []);
  const lease = leaseOf(held, options);
  const outcome = await runHandler(handler, messages, lease.context);
  lease.end();
  options.metrics.observe("outbox_handler_duration_ms", { kind }, performance.now() - startedAt);
  if (outcome.kind === "answered") {
    for (const [index, at] of handed.entries()) verdicts[at] = outcome.verdicts[index];
    return { verdicts, failed: false };
  }
  if (outcome.kind === "failed") verdicts[first] = { kind: "retry", error: outcome.error };
  else if (!options.cut.aborted) {
    verdicts[first] = { kind: "retry", error: "the handler did not finish within its lease" };
  }
  return { verdicts, failed: true };
};

/** The context of a run: its signal fires once the lease is all but over, unless it is renewed. */
const leaseOf = (held: Held, { stopping, cut, renew }: AttemptOptions) => {
  const { leaseMs, headroomMs } = held.queue.settings;
  const due = new AbortController();
  const deadline = (): number => held.leasedAt + leaseMs - headroomMs;
  const arm = () => setTimeout(() => due.abort(), Math.max(0, deadline() - performance.now()));
  let timer = arm();
  let ended = false;
  const context: HandlerContext = {
    signal: AbortSignal.any([due.signal, cut]),
    stopping,
    get deadline() {
      return deadline();
    },
    renew: async () => {
      if (ended || due.signal.aborted) return false;
      const sentAt = performance.now();
      const renewed = await renew(held);
      if (renewed) held.leasedAt = sentAt;
      if (!ended) {
        clearTimeout(timer);
        if (renewed) timer = arm();
        else due.abort();
      }
      return renewed;
    },
  };
  const end = (): void => {
    ended = true;
    clearTimeout(timer);
  };
  return { context, end };
};

const positions = ({ partitionId, queue, messages }: Held, limits: Limits): number[] => {
  const head = messages.find(({ parked }) => !parked);
  const scope = `${partitionId}`;
  // More than one attempt without a stored failure: whoever ran this head before died of something.
  if (head !== undefined && head.attempts > 1) limits.failed(scope);
  const ofKey = (orderKey: string): number => limits.of(`${scope}/${orderKey}`);
  return handedOver(messages, limits.of(scope), queue.settings.policy === "park_key" ? ofKey : undefined);
};

/** The verdict on a message that was claimed too often without an answer to be run now. */
const crashVerdict = ({ queue: { settings }, messages }: Held, at: number): Verdict | undefined => {
  const message = messages[at];
  if (message === undefined) return undefined;
  const died: Verdict = { kind: "retry", error: "the worker died while handling it" };
  if (message.attempts > settings.maxAttempts) {
    return finalVerdict(died, message.attempts, settings.maxAttempts);
  }
  const parks = settings.policy === "park_key" && !message.parked;
  return parks && message.attempts > crashesBeforeParking ? { ...died, counted: false } : undefined;
};
