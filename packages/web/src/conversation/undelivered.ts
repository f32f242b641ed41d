import type { Attempt, TurnView } from "./turn-view.ts";

/** A turn that was begun here, of which it is not known whether the server has it. */
export type Undelivered = TurnView & { readonly attempt: Attempt };

export const isUndelivered = (turn: TurnView | undefined): turn is Undelivered =>
  turn?.attempt !== undefined && turn.answer.state === "uncertain";

/**
 * What is shown; a retry or edit that is found among what was read gets its id, which it was not told. It arrived when
 * another turn with its question stands where it does: after the turn before it, and in the place of the replaced one.
 */
export const identify = (shown: readonly TurnView[], read: readonly TurnView[]): readonly TurnView[] => {
  const turn = shown.at(-1);
  const found = read.at(-1);
  if (!isUndelivered(turn) || turn.requestId !== undefined || found === undefined) return shown;
  const arrived =
    found.requestId !== turn.attempt.replaces &&
    found.question?.content === turn.question?.content &&
    read.at(-2)?.requestId === shown.at(-2)?.requestId;
  return arrived ? [...shown.slice(0, -1), { ...turn, requestId: found.requestId }] : shown;
};

/** What was read, and in its place what was begun here and did not arrive, so that it can be sent again. */
export const keepUndelivered = (
  read: readonly TurnView[],
  shown: readonly TurnView[],
): readonly TurnView[] => {
  const turn = shown.at(-1);
  if (!isUndelivered(turn) || read.some(({ requestId }) => requestId === turn.requestId)) return read;
  const { replaces } = turn.attempt;
  if (replaces === undefined) return [...read, turn];
  return read.at(-1)?.requestId === replaces ? [...read.slice(0, -1), turn] : read;
};
