import { inTransaction } from "../db/tx.ts";
import { sleep } from "../lib/sleep.ts";
import type { DeadLetter } from "./dead-letter.ts";
import type { DeadLetterDeps } from "./dead-letters.ts";
import { findDead } from "./dead-store.ts";
import { storableError } from "./settle.ts";
import { buryHead, findMessage, isHead, type MessagePlace, takePartition } from "./waiting-store.ts";

/** Why a message was not given up; nothing has changed. */
export type RejectRefusal = "unknown" | "leased" | "behind" | "stray";

const refusals: Readonly<Record<RejectRefusal, string>> = {
  unknown: "there is no waiting message with this id: it was delivered, given up, or never enqueued",
  leased: "a worker is delivering its partition; try again, or pause the partition first",
  behind: "it is not the first of its order key, and waits for those before it",
  stray: "its partition does not exist; `outbox repartition` gives it one that does",
};

export class RejectRefused extends Error {
  override name = "RejectRefused";
  readonly reason: RejectRefusal;

  constructor(reason: RejectRefusal) {
    super(refusals[reason]);
    this.reason = reason;
  }
}

export interface RejectOptions {
  readonly actor: string;
  readonly reason?: string | undefined;
  /** How long to wait, in ms, for a worker that has the partition leased. Default 2 s. */
  readonly patienceMs?: number | undefined;
}

/** Longest reason, in characters. */
export const maxRejectReason = 2_000;

const defaultPatienceMs = 2_000;
// A busy partition is free for moments only.
const lookAgainMs = 20;

/**
 * Gives up a message that waits at the head of its order key, as no counter ever does with usage and audit
 * events (outbox-engine.md, Handlers): it becomes a pending dead letter, and what waits behind it goes on, in
 * order. Only the head: what lies behind it was not tried, and stays in order. Under the lock of its partition
 * and never under the lease of a worker, so that none acknowledges what was given up. Throws `RejectRefused`.
 */
export const rejectWaiting = async (
  deps: DeadLetterDeps,
  messageId: string,
  options: RejectOptions,
): Promise<DeadLetter> => {
  const place = await findMessage(deps.db, messageId);
  if (place === null) throw new RejectRefused("unknown");
  const { actor, reason } = options;
  const by = { actor, reason: reason === undefined ? null : storableError(reason) };
  const letter = await patiently(options.patienceMs ?? defaultPatienceMs, () =>
    bury(deps, place, by),
  ).finally(
    // Also when it was refused: a claim may have stepped over the locked partition.
    deps.flush,
  );
  deps.logger.info(
    {
      actor,
      reason,
      dead_letter_ids: [letter.id],
      message_ids: [messageId],
      kind: letter.kind,
      partition_id: letter.partitionId,
      tenant_id: letter.tenantId,
      attempts: letter.attempts,
      processing_stage: "outbox",
    },
    "waiting message rejected",
  );
  return letter;
};

/** Repeats `work` while it is refused because of a lease, for at most so long. */
const patiently = async <T>(patienceMs: number, work: () => Promise<T>): Promise<T> => {
  const giveUpAt = performance.now() + patienceMs;
  for (;;) {
    try {
      return await work();
    } catch (error) {
      const leased = error instanceof RejectRefused && error.reason === "leased";
      if (!leased || performance.now() >= giveUpAt) throw error;
    }
    await sleep(lookAgainMs);
  }
};

const bury = (
  { db }: DeadLetterDeps,
  place: MessagePlace,
  by: { readonly actor: string; readonly reason: string | null },
): Promise<DeadLetter> =>
  inTransaction(db, async (tx) => {
    const taken = await takePartition(tx, place.partitionId);
    if (taken !== true) throw new RejectRefused(taken === null ? "stray" : "leased");
    if ((await isHead(tx, place)) === false) throw new RejectRefused("behind");
    const id = await buryHead(tx, place, by);
    const letter = id === null ? null : await findDead(tx, id, false);
    if (letter === null) throw new RejectRefused("unknown");
    return letter;
  });
