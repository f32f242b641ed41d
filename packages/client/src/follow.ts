import { ApiError, ConnectionError } from "./errors.ts";
import type { Call, Http } from "./http.ts";
import { type Heard, listen } from "./listen.ts";
import type { TurnResult } from "./model.ts";
import { interrupt } from "./progress.ts";
import { type Lost, look, recover } from "./recover.ts";

/** A turn to be followed to its end. */
export interface Task extends Lost {
  /** The call that begins the turn; null for one that was begun before. */
  readonly begin: Call | null;
  /** The id was made for this very call, so a conflict means that the call arrived twice. */
  readonly freshId: boolean;
}

/** Whether the turn may exist although the server said no. */
const isOpen = (error: unknown, task: Task): boolean =>
  error instanceof ApiError &&
  (error.status >= 500 || (task.freshId && error.code === "request_id_conflict"));

/** Whether somebody said no: the server for a reason of its own, or whoever stands before it. */
const isAnswered = (error: unknown): boolean =>
  error instanceof ApiError
    ? error.status >= 500
    : error instanceof ConnectionError &&
      error.status !== undefined &&
      error.status >= 400 &&
      error.status < 500;

const begin = async (http: Http, task: Task, call: Call): Promise<Heard> => {
  try {
    return await listen(http, { ...call, signal: task.signal }, task.progress, false);
  } catch (error) {
    if (!isOpen(error, task)) throw error;
    return { lost: error };
  }
};

/**
 * Follows a turn to its result. What was lost is never sent again: the turn's status decides (turns.md §9,
 * §13, §16.2). Throws the refusal of the call that begins it, and the reason of the signal.
 */
export const follow = async (http: Http, task: Task): Promise<TurnResult> => {
  const { progress } = task;
  if (task.begin === null) return attach(http, task);
  const heard = await begin(http, task, task.begin);
  if ("result" in heard) return heard.result;
  const cause = heard.lost;
  if (isAnswered(cause)) {
    // One look tells whether the turn came to be all the same.
    const sight = await look(http, task);
    if ("result" in sight) return sight.result;
    if (sight.reason === "not_found" || sight.reason === "unreachable") throw cause;
  }
  interrupt(progress, cause);
  return recover(http, task, cause);
};

/** As `recover`, but a refusal of the first look is a refusal. */
const attach = async (http: Http, task: Task): Promise<TurnResult> => {
  const sight = await look(http, task);
  if ("result" in sight) return sight.result;
  const { cause, reason, final } = sight;
  const refused =
    cause instanceof ApiError
      ? final || reason === "not_found"
      : cause !== undefined && !(cause instanceof ConnectionError);
  if (refused) throw cause;
  return recover(http, task, cause);
};
