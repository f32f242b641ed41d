import type { Db } from "../db/pool.ts";
import { inTransaction, type Tx } from "../db/tx.ts";
import type { Logger } from "../telemetry/log.ts";
import type { Metrics } from "../telemetry/metrics.ts";
import {
  type ChangedDead,
  claimDead,
  discardDead,
  purgeDead,
  rejectDead,
  requeueDead,
  resolveDead,
} from "./dead-change-store.ts";
import type { DeadFilter, DeadLetter, DeadStatus } from "./dead-letter.ts";
import { newestDeadId, nextDeadIds, readDeadStates } from "./dead-store.ts";
import { type QueueKind, type QueueSettings, queueKinds } from "./queue.ts";
import { storableError } from "./settle.ts";

/** What operators do with dead letters (outbox.md §11). The system never replays by itself. */
export interface DeadLetterDeps {
  readonly db: Db;
  /** Those of the configuration. */
  readonly queues: Readonly<Record<QueueKind, QueueSettings>>;
  /** Wakes the workers; called after the commit. */
  readonly flush: () => void;
  readonly logger: Logger;
  readonly metrics: Metrics;
}

/**
 * Why one did not change: the state it is in, or there is no such dead letter. A pending one that was not
 * requeued is of a kind that has no queue any more.
 */
export interface Skipped {
  readonly id: bigint;
  readonly reason: DeadStatus | "unknown";
}

export interface Change {
  readonly changed: readonly bigint[];
  readonly skipped: readonly Skipped[];
}

/** Up to so many rows change in one transaction, so that none holds its locks for long. */
const maxPerTransaction = 200;
/** The log cuts longer lists. */
const maxIdsPerLine = 50;

/**
 * Claims up to `limit` dead letters for an operator's own reprocessing: nobody else gets or requeues them
 * before the deadline. Oldest first, with their payloads.
 */
export const claimDeadLetters = async (
  deps: DeadLetterDeps,
  scope: Omit<DeadFilter, "status">,
  options: { readonly timeoutSecs: number; readonly limit: number; readonly actor: string },
): Promise<DeadLetter[]> => {
  const { timeoutSecs, limit, actor } = options;
  const letters = await inTransaction(deps.db, (tx) => claimDead(tx, scope, timeoutSecs, limit));
  logChange(deps, "dead letters claimed", actor, letters);
  return letters;
};

/** Puts claimed dead letters back, with why; counts an attempt. */
export const rejectDeadLetters = (
  deps: DeadLetterDeps,
  ids: readonly bigint[],
  options: { readonly reason: string; readonly actor: string },
): Promise<Change> =>
  changeByIds(deps, ids, options.actor, "dead letters rejected", (tx, some) =>
    rejectDead(tx, some, storableError(options.reason)),
  );

/** Marks claimed dead letters as dealt with. */
export const resolveDeadLetters = (
  deps: DeadLetterDeps,
  ids: readonly bigint[],
  actor: string,
): Promise<Change> =>
  changeByIds(deps, ids, actor, "dead letters resolved", (tx, some) => resolveDead(tx, some, actor));

/** Gives pending dead letters up for good. */
export const discardDeadLetters = (
  deps: DeadLetterDeps,
  ids: readonly bigint[],
  actor: string,
): Promise<Change> =>
  changeByIds(deps, ids, actor, "dead letters discarded", (tx, some) => discardDead(tx, some, actor));

/**
 * Delivers dead letters again: each becomes a message with the same `message_id` at the tail of its
 * partition and is resolved, in one transaction, so that two operators at once requeue it once. Order
 * relative to its old neighbours is lost.
 */
export const requeueDeadLetters = async (
  deps: DeadLetterDeps,
  ids: readonly bigint[],
  actor: string,
): Promise<Change> => {
  const change = await changeByIds(deps, ids, actor, "dead letters requeued", async (tx, some) => {
    const changed = await requeueDead(tx, Object.values(deps.queues), some, actor);
    tx.afterCommit(() => {
      for (const { kind } of changed) {
        const known = queueKinds.find((one) => one === kind);
        if (known !== undefined) deps.metrics.count("outbox_enqueue", { kind: known, result: "ok" });
      }
    });
    return changed;
  });
  if (change.changed.length > 0) deps.flush();
  return change;
};

const changeByIds = async (
  deps: DeadLetterDeps,
  ids: readonly bigint[],
  actor: string,
  message: string,
  change: (tx: Tx, ids: readonly bigint[]) => Promise<readonly ChangedDead[]>,
): Promise<Change> => {
  const changed: bigint[] = [];
  const skipped: Skipped[] = [];
  const given = [...new Set(ids)].sort((one, other) => (one < other ? -1 : 1));
  for (let at = 0; at < given.length; at += maxPerTransaction) {
    const some = given.slice(at, at + maxPerTransaction);
    const { done, left } = await inTransaction(deps.db, async (tx) => {
      const rows = await change(tx, some);
      const ids = new Set(rows.map(({ id }) => id));
      const rest = some.filter((id) => !ids.has(id));
      return { done: rows, left: rest.length === 0 ? [] : await reasonsOf(tx, rest) };
    });
    logChange(deps, message, actor, done);
    changed.push(...done.map(({ id }) => id).sort((one, other) => (one < other ? -1 : 1)));
    skipped.push(...left);
  }
  return { changed, skipped };
};

const reasonsOf = async (tx: Tx, ids: readonly bigint[]): Promise<Skipped[]> => {
  const states = await readDeadStates(tx, ids);
  return ids.map((id) => ({ id, reason: states.get(id) ?? "unknown" }));
};

const logChange = (
  { logger }: DeadLetterDeps,
  message: string,
  actor: string,
  letters: readonly Pick<DeadLetter, "id" | "messageId">[],
): void => {
  for (let at = 0; at < letters.length; at += maxIdsPerLine) {
    const some = letters.slice(at, at + maxIdsPerLine);
    logger.info(
      {
        actor,
        dead_letter_ids: some.map(({ id }) => id),
        message_ids: some.map(({ messageId }) => messageId),
        processing_stage: "outbox",
      },
      message,
    );
  }
};

/** Which pending dead letters a change is for: named ones, or those that fit, oldest first. */
export type Selection =
  | { readonly ids: readonly bigint[] }
  | { readonly filter: Omit<DeadFilter, "status">; readonly limit: number };

const changes = {
  requeue: requeueDeadLetters,
  discard: discardDeadLetters,
} as const;

/**
 * Changes a selection in bounded transactions; what is done stays done when a later one fails, and doing
 * it again goes on. A message that dies again while this runs is not taken twice. `onProgress` gets the
 * number changed so far.
 */
export const changeSelected = async (
  deps: DeadLetterDeps,
  kind: keyof typeof changes,
  selection: Selection,
  options: { readonly actor: string; readonly onProgress?: ((changed: number) => void) | undefined },
): Promise<Change> => {
  const change = changes[kind];
  if ("ids" in selection) return change(deps, selection.ids, options.actor);
  const { filter, limit } = selection;
  const upTo = await newestDeadId(deps.db);
  const changed: bigint[] = [];
  const skipped: Skipped[] = [];
  for (let above = 0n; changed.length < limit; ) {
    const ids = await nextDeadIds(
      deps.db,
      { ...filter, status: "pending" },
      { above, upTo, limit: Math.min(maxPerTransaction, limit - changed.length) },
    );
    const last = ids.at(-1);
    if (last === undefined) break;
    const step = await change(deps, ids, options.actor);
    changed.push(...step.changed);
    skipped.push(...step.skipped);
    options.onProgress?.(changed.length);
    above = last;
  }
  return { changed, skipped };
};

const purgeBatch = 1_000;

export interface PurgeScope {
  /** Since they were resolved or discarded; 0 = all of them. */
  readonly olderThanDays: number;
  readonly queue?: string | undefined;
}

/**
 * Deletes dead letters that were resolved or discarded, in bounded batches until none is left or the
 * signal fires; pending ones never (outbox.md §11). Returns how many.
 */
export const purgeDeadLetters = async (
  deps: Pick<DeadLetterDeps, "db" | "logger">,
  scope: PurgeScope,
  options: {
    readonly actor: string;
    readonly signal?: AbortSignal | undefined;
    readonly onProgress?: ((deleted: number) => void) | undefined;
  },
): Promise<number> => {
  const { olderThanDays, queue } = scope;
  let deleted = 0;
  while (options.signal?.aborted !== true) {
    const some = await inTransaction(deps.db, (tx) => purgeDead(tx, { olderThanDays, queue }, purgeBatch));
    deleted += some;
    if (some > 0) options.onProgress?.(deleted);
    if (some < purgeBatch) break;
  }
  if (deleted > 0) {
    deps.logger.info(
      { actor: options.actor, deleted, older_than_days: olderThanDays, queue, processing_stage: "outbox" },
      "dead letters purged",
    );
  }
  return deleted;
};
