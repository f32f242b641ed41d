import type { Message, Verdict } from "./message.ts";
import type { OrderPolicy } from "./queue.ts";

/** The acknowledgement of one partition's batch, as the database gets it. Pure. */
export interface Settlement {
  readonly partitionId: number;
  readonly token: string;
  /** Delivered: to delete. */
  readonly done: readonly bigint[];
  readonly dead: readonly { readonly id: bigint; readonly attempts: number; readonly error: string }[];
  /** `park_key`: keys that wait, with the attempts of their first message. */
  readonly parked: readonly {
    readonly orderKey: string;
    readonly delayMs: number;
    readonly attempts: number;
    /** Why; null leaves what is written of an earlier failure. */
    readonly error: string | null;
  }[];
  /** `park_key`: keys that had waited and go on. */
  readonly resumed: readonly string[];
  /** Back-off of the whole partition. */
  readonly delayMs: number | null;
  /** The first message left and its attempts; null leaves what the claim wrote. */
  readonly head: { readonly id: bigint; readonly attempts: number } | null;
  readonly error: string | null;
  /** The lease stays, for the next claim of this process. */
  readonly keep: boolean;
}

export interface SettleRules {
  readonly policy: OrderPolicy;
  readonly maxAttempts: number;
  /** Milliseconds before run `attempts + 1`. */
  readonly backoff: (attempts: number) => number;
}

const maxErrorLength = 2_000;
const maxDelayMs = 86_400_000;

/** An error text the database takes: no NUL, which no text column stores, and of bounded length. */
export const storableError = (text: string): string =>
  String(text).replaceAll("\0", "").slice(0, maxErrorLength);

/** What is written down of something thrown; a plugin may throw anything. */
export const errorText = (error: unknown): string =>
  storableError(error instanceof Error ? `${error.name}: ${error.message}` : String(error));

/** A counted retry that has used up its attempts is a rejection (outbox-engine.md, Handlers). */
export const finalVerdict = (
  verdict: Verdict | undefined,
  attempts: number,
  maxAttempts: number,
): Verdict | undefined =>
  verdict?.kind === "retry" && verdict.counted !== false && attempts >= maxAttempts
    ? { kind: "reject", reason: `max attempts (${maxAttempts}) reached: ${verdict.error}` }
    : verdict;

/**
 * Turns verdicts into an acknowledgement (outbox-engine.md, O5): a `block` partition keeps everything
 * behind its first unfinished message; a `park_key` partition only what shares the order key. The
 * messages are all that was claimed: those that were not attempted give back the attempt their claim
 * had counted.
 */
export const settlementOf = (
  batch: { readonly partitionId: number; readonly token: string; readonly messages: readonly Message[] },
  verdicts: readonly (Verdict | undefined)[],
  rules: SettleRules,
): Settlement => {
  const finish = batch.messages.map((message, at) => ({
    message,
    verdict: finalVerdict(verdicts[at], message.attempts, rules.maxAttempts),
  }));
  return rules.policy === "block"
    ? blockSettlement(batch, finish, rules)
    : parkSettlement(batch, finish, rules);
};

interface Finished {
  readonly message: Message;
  readonly verdict: Verdict | undefined;
}

type Mutable<T> = { -readonly [K in keyof T]: T[K] extends readonly (infer E)[] ? E[] : T[K] };

const emptySettlement = (batch: { partitionId: number; token: string }): Mutable<Settlement> => ({
  partitionId: batch.partitionId,
  token: batch.token,
  done: [],
  dead: [],
  parked: [],
  resumed: [],
  delayMs: null,
  head: null,
  error: null,
  keep: false,
});

const blockSettlement = (
  batch: { partitionId: number; token: string },
  finished: readonly Finished[],
  rules: SettleRules,
): Settlement => {
  const settlement = emptySettlement(batch);
  for (const { message, verdict } of finished) {
    if (verdict === undefined) {
      settlement.head = { id: message.id, attempts: message.attempts - 1 };
      break;
    }
    if (verdict.kind === "retry") {
      settlement.head = { id: message.id, attempts: countedAttempts(message, verdict) };
      settlement.delayMs = delayOf(message, verdict, rules);
      settlement.error = storableError(verdict.error);
      break;
    }
    closeMessage(settlement, message, verdict, rules);
  }
  return settlement;
};

const parkSettlement = (
  batch: { partitionId: number; token: string },
  finished: readonly Finished[],
  rules: SettleRules,
): Settlement => {
  const settlement = emptySettlement(batch);
  const stopped = new Set<string>();
  const resumed = new Set<string>();
  for (const { message, verdict } of finished) {
    const key = message.orderKey;
    if (stopped.has(key)) continue;
    if (verdict === undefined) {
      stopped.add(key);
      // Behind a delivered probe the key goes on; otherwise it waits as it did.
      if (message.parked && !resumed.has(key)) {
        settlement.parked.push({ orderKey: key, delayMs: 0, attempts: message.attempts - 1, error: null });
      }
      continue;
    }
    if (verdict.kind === "retry") {
      stopped.add(key);
      resumed.delete(key);
      const error = storableError(verdict.error);
      settlement.parked.push({
        orderKey: key,
        delayMs: delayOf(message, verdict, rules),
        attempts: countedAttempts(message, verdict),
        error,
      });
      settlement.error ??= error;
      continue;
    }
    closeMessage(settlement, message, verdict, rules);
    if (message.parked) resumed.add(key);
  }
  settlement.resumed = [...resumed];
  const head = finished.find(({ message }) => !message.parked);
  if (head !== undefined && head.verdict === undefined) {
    settlement.head = { id: head.message.id, attempts: head.message.attempts - 1 };
  }
  return settlement;
};

type Retry = Verdict & { readonly kind: "retry" };

const countedAttempts = (message: Message, { counted = true }: Retry): number =>
  counted ? message.attempts : message.attempts - 1;

// A delay the database cannot take would fail the acknowledgement of every other partition with it.
const delayOf = (message: Message, { afterMs }: Retry, rules: SettleRules): number =>
  afterMs !== undefined && Number.isFinite(afterMs)
    ? Math.min(Math.max(0, afterMs), maxDelayMs)
    : rules.backoff(message.attempts);

const closeMessage = (
  settlement: Mutable<Settlement>,
  message: Message,
  verdict: Verdict & { kind: "done" | "already_terminal" | "reject" },
  rules: SettleRules,
): void => {
  if (verdict.kind === "reject") {
    settlement.dead.push({
      id: message.id,
      // The claim that found it used up was not a run.
      attempts: Math.min(message.attempts, rules.maxAttempts),
      error: storableError(verdict.reason),
    });
  } else {
    settlement.done.push(message.id);
  }
};
