import type { TenantId } from "../auth/actor.ts";
import type { Db } from "../db/pool.ts";
import { inTransaction } from "../db/tx.ts";
import { sleep } from "../lib/sleep.ts";
import type { RunningTurns } from "./cancellation.ts";
import { findTurnStatus, requestCancel, type TurnStatusRow } from "./store.ts";

/** Channel that carries turn ids to the process that runs them (turns.md §16.1). */
export const cancelChannel = "turn_cancel";

export interface CancelDeps {
  readonly db: Db;
  readonly running: RunningTurns;
  /** Tells the other processes, best effort: owners poll the flag as well. */
  readonly notify: (channel: string, payload: string) => void;
  /** How long the caller waits for the end of the turn. */
  readonly waitMs?: number;
}

const pollMs = 100;

/**
 * Asks a running turn to stop and waits up to 2 s for its end (turns.md §16.1). Returns the status
 * then: terminal, or still running. A terminal turn is returned as it is; repeating is harmless.
 */
export const cancelTurn = async (
  deps: CancelDeps,
  tenantId: TenantId,
  chatId: string,
  turn: TurnStatusRow,
): Promise<TurnStatusRow> => {
  if (turn.state !== "running") return turn;
  const flagged = await inTransaction(deps.db, (tx) =>
    requestCancel(tx, tenantId, chatId, turn.requestId, "user_stop"),
  );
  stopTurns(deps, flagged, "user_stop");
  const deadline = performance.now() + (deps.waitMs ?? 2_000);
  for (;;) {
    const now = await findTurnStatus(deps.db, tenantId, chatId, turn.requestId);
    if (now === null || now.state !== "running") return now ?? turn;
    const left = deadline - performance.now();
    if (left <= 0) return now;
    // Here the end is a signal; a turn of another process is polled.
    if (deps.running.has(turn.id)) await finishedWithin(deps.running, turn.id, left);
    else await sleep(Math.min(pollMs, left));
  }
};

const finishedWithin = async (running: RunningTurns, turnId: string, ms: number): Promise<void> => {
  const over = new AbortController();
  try {
    await Promise.race([sleep(ms, over.signal), running.finished(turnId)]);
  } finally {
    over.abort();
  }
};

/** Stops flagged turns wherever they run: here at once, elsewhere through a notification. */
export const stopTurns = (
  deps: Pick<CancelDeps, "running" | "notify">,
  turnIds: readonly string[],
  reason: "user_stop" | "chat_deleted",
): void => {
  for (const turnId of turnIds) {
    if (!deps.running.cancel(turnId, reason)) deps.notify(cancelChannel, `${turnId} ${reason}`);
  }
};

/** What a notification on `cancelChannel` asks for; foreign payloads and turns are ignored. */
export const onCancelNotification = (running: RunningTurns, payload: string): void => {
  const [turnId = "", reason] = payload.split(" ");
  running.cancel(turnId, reason === "chat_deleted" ? "chat_deleted" : "user_stop");
};
