import { type Books, type Crash, type Evidence, forgettable, type Handed, type Tell } from "./evidence.ts";
import type { Batch } from "./journal.ts";
import { checkRepetitions, type Repetitions } from "./repetitions.ts";
import { fateOf, policies, transactionalKind } from "./world.ts";

export interface Verdict extends Repetitions {
  readonly committed: number;
  readonly delivered: number;
  readonly dead: number;
  /** Of them by the transactional handler: exactly once each. */
  readonly transactional: number;
  /** Messages given to the other handlers, repetitions included. */
  readonly handed_over: number;
  /** Handed over by a process that had slept through its lease; its answer no longer counted. */
  readonly late: number;
  /** The first of them; none when all is well. */
  readonly violations: readonly string[];
  readonly violation_count: number;
}

/**
 * Judges a run by what its workers wrote (outbox.md O1, O3–O7; outbox-engine.md O4, O5): every committed
 * message was finished, none that was rolled back was seen, the messages of a key (of a whole partition
 * where the queue blocks) came in order behind finished ones, and none came again unless the lease
 * under which it was handed over had run out before.
 */
export const judge = (evidence: Evidence): Verdict => {
  const violations: string[] = [];
  let count = 0;
  const tell: Tell = (text) => {
    count += 1;
    if (violations.length < 20) violations.push(text);
  };
  const batches = evidence.journals.flatMap(({ batches: own }) => own).toSorted((a, b) => a.at - b.at);
  // Its process slept between claim and handler until the lease had run out. What it hands over proves
  // nothing about order; should its answer have counted after all, what it finished is finished.
  const late = new Set(batches.filter(({ at, claimedAt }) => at >= claimedAt + evidence.leaseMs));
  const keys = byKey(batches);
  checkBooks(evidence, keys, tell);
  for (const [key, handed] of keys) checkOrder(key, handed, late, evidence.crash, tell);
  checkPartitions(batches, late, tell);
  const again = checkRepetitions(evidence, keys, late, tell);
  return {
    committed: evidence.books.committed.reduce((sum, { n }) => sum + n, 0),
    delivered: deliveredOf(keys) + evidence.books.effects.length,
    transactional: evidence.books.effects.length,
    dead: evidence.books.dead.length,
    handed_over: batches.reduce((sum, { messages }) => sum + messages.length, 0),
    ...again,
    late: late.size,
    violations,
    violation_count: count,
  };
};

const letterOf = ({ end }: Batch, at: number): string | null => end?.verdicts[at] ?? null;
const isFinished = (letter: string | null): boolean => letter === "d" || letter === "x";

/** What was handed over of each key, in the order it was. */
const byKey = (batches: readonly Batch[]): Map<string, Handed[]> => {
  const keys = new Map<string, Handed[]>();
  for (const batch of batches) {
    for (const [at, [tenantId, number, , messageId]] of batch.messages.entries()) {
      const key = `${batch.kind} ${tenantId}`;
      const handed = keys.get(key) ?? [];
      keys.set(key, handed);
      handed.push({ batch, number, messageId, letter: letterOf(batch, at) });
    }
  }
  return keys;
};

const deliveredOf = (keys: ReadonlyMap<string, readonly Handed[]>): number => {
  let delivered = 0;
  for (const handed of keys.values()) {
    delivered += new Set(handed.filter(({ letter }) => letter === "d").map(({ number }) => number)).size;
  }
  return delivered;
};

/** All that was committed came to its end, dead or delivered as it was fated to, and nothing else was seen. */
const checkBooks = ({ books }: Evidence, keys: ReadonlyMap<string, readonly Handed[]>, tell: Tell): void => {
  if (books.left > 0) tell(`${books.left} messages still wait`);
  const dead = new Set(books.dead.map(({ kind, tenantId, number }) => `${kind} ${tenantId} ${number}`));
  if (dead.size !== books.dead.length) tell("a message died twice");
  let rejected = 0;
  for (const { kind, tenantId, n } of books.committed) {
    const key = `${kind} ${tenantId}`;
    const finished =
      kind === transactionalKind
        ? effectsOf(books, key, n, tell)
        : finishedOf(keys.get(key) ?? [], key, n, tell);
    for (let number = 1; number <= n; number += 1) {
      const fated = fateOf(kind, tenantId, number) === "reject";
      if (fated) rejected += 1;
      if (fated !== dead.has(`${key} ${number}`)) tell(`${key}: ${number} is wrongly dead or not`);
      if (!fated && !finished.has(number)) tell(`${key}: ${number} was lost`);
    }
  }
  if (rejected !== dead.size) tell(`${dead.size} dead letters, ${rejected} were rejected`);
};

const finishedOf = (handed: readonly Handed[], key: string, n: number, tell: Tell): Set<number> => {
  const ids = new Map<number, string>();
  for (const { number, messageId } of handed) {
    if (number < 1 || number > n) tell(`${key}: ${number} was handed over and never committed`);
    const id = ids.get(number);
    if (id !== undefined && id !== messageId) tell(`${key}: there were two messages ${number}`);
    ids.set(number, messageId);
  }
  return new Set(handed.filter(({ letter }) => isFinished(letter)).map(({ number }) => number));
};

/** Of a transactional handler: each effect once, in order, and none of a message that was given up. */
const effectsOf = ({ effects }: Books, key: string, n: number, tell: Tell): Set<number> => {
  const seen = new Set<number>();
  let last = 0;
  for (const { tenantId, number } of effects) {
    if (`${transactionalKind} ${tenantId}` !== key) continue;
    if (number < 1 || number > n) tell(`${key}: ${number} had an effect and was never committed`);
    if (fateOf(transactionalKind, tenantId, number) === "reject")
      tell(`${key}: ${number} died with an effect`);
    if (seen.has(number)) tell(`${key}: ${number} had its effect twice`);
    else if (number < last) tell(`${key}: ${number} had its effect after ${last}`);
    seen.add(number);
    last = number;
  }
  return seen;
};

/** Within a key: without a gap, behind finished messages only, and never back behind what was finished. */
const checkOrder = (
  key: string,
  handed: readonly Handed[],
  late: ReadonlySet<Batch>,
  crash: Crash | null,
  tell: Tell,
): void => {
  const finishedAt = new Map<number, number>();
  let floor = 1;
  let next = 1;
  const batches = [...Map.groupBy(handed, ({ batch }) => batch)];
  const forgotten = batches.filter(([batch]) => crash !== null && forgettable(batch, crash));
  const lowestForgotten = Math.min(...forgotten.flatMap(([, slice]) => slice.map(({ number }) => number)));
  for (const [batch, slice] of batches) {
    const first = slice[0]?.number ?? 0;
    const last = slice.at(-1)?.number ?? 0;
    if (slice.some(({ number }, at) => number !== first + at)) tell(`${key}: a batch is not in order`);
    if (!late.has(batch)) {
      if (first > next) tell(`${key}: ${first} came before ${next}`);
      const isBack = first < floor && !(crash !== null && batch.at > crash.from && first >= lowestForgotten);
      if (isBack) tell(`${key}: ${first} came again behind ${floor}`);
      for (let number = floor; number < first; number += 1) {
        const at = finishedAt.get(number);
        if (at === undefined || at > batch.at) tell(`${key}: ${first} came while ${number} was unfinished`);
      }
      floor = first;
    }
    next = Math.max(next, last + 1);
    for (const { number, letter } of slice) {
      const at = finishedAt.get(number) ?? Number.POSITIVE_INFINITY;
      if (isFinished(letter)) finishedAt.set(number, Math.min(at, batch.end?.at ?? at));
    }
  }
};

/** `block`: whatever of a partition was handed over and not finished comes before anything behind it. */
const checkPartitions = (batches: readonly Batch[], late: ReadonlySet<Batch>, tell: Tell): void => {
  const open = new Map<number, Set<number>>();
  for (const batch of batches) {
    if (policies[batch.kind] !== "block") continue;
    const unfinished = open.get(batch.partition) ?? new Set<number>();
    open.set(batch.partition, unfinished);
    const ids = batch.messages.map(([, , id]) => id);
    const first = ids[0] ?? 0;
    if (ids.some((id, at) => at > 0 && id <= (ids[at - 1] ?? 0))) {
      tell(`partition ${batch.partition}: a batch is not in order`);
    }
    for (const id of late.has(batch) ? [] : unfinished) {
      if (id < first) tell(`partition ${batch.partition}: ${first} came while ${id} was unfinished`);
    }
    for (const [at, id] of ids.entries()) {
      if (isFinished(letterOf(batch, at))) unfinished.delete(id);
      else if (!late.has(batch)) unfinished.add(id);
    }
  }
};
