import { hasCode, isInProgress, type Turn, type TurnResult } from "@mini-chat/client";
import type { Quota } from "../quota/quota.ts";
import { followTurn } from "./follow.ts";
import { elsewhere, noticeOf, notices, uncertain } from "./notice.ts";
import type { Transcript } from "./transcript.ts";
import { type Answer, isRunning, type TurnView } from "./turn-view.ts";

export interface RunnerDeps {
  readonly transcript: Transcript;
  readonly quota: Quota;
  /** Tells the list and other tabs that a turn began or ended. */
  readonly changed: () => void;
  readonly say: (text: string) => void;
  readonly cancel: (requestId: string) => Promise<unknown>;
  /** Reads the chat again. */
  readonly reload: () => Promise<void>;
}

/** The turn of a chat that is being answered, if there is one. */
export interface Runner {
  current(): Turn | null;
  /** Asks the server for the end of the latest turn: at once, or as soon as one that is only being begun is there. */
  stop(): void;
  /** Of turns that began or ended here: what was read before is not how it is any more. */
  moves(): number;
  /** Follows a turn to its end, `own` when it was begun here; rejects with the refusal of the call that begins it. */
  follow(key: string, turn: Turn, own: boolean): Promise<TurnResult>;
  /**
   * Begins a turn after the others, or in the place of one, which is put back when it is refused. Resolves at its end,
   * with whether it was begun.
   */
  begin(next: TurnView, start: () => Turn, replaced?: TurnView): Promise<boolean>;
  /** Says that a turn that was not followed has ended, `whole` or not. */
  ended(whole: boolean): void;
}

interface Running {
  readonly turn: Turn;
  /** The server has it, so that it can be cancelled. */
  there: boolean;
}

export const createRunner = (deps: RunnerDeps): Runner => {
  const { transcript, quota, changed, say, reload } = deps;
  const { state, patch, replaceTurn, last } = transcript;
  let running: Running | null = null;
  let moves = 0;

  const ended = (whole: boolean): void => {
    say(whole ? "The answer is complete." : "The answer has ended.");
    quota.refresh();
    changed();
  };

  const tell = (result: TurnResult, own: boolean): void => {
    if (result.state === "uncertain") {
      patch({ notice: own ? uncertain : elsewhere(result.reason) });
      return;
    }
    // Of a turn that was looked up here the reader never missed anything.
    const recovered = own && last()?.answer.recovered === true;
    if (recovered) patch({ notice: { kind: "info", text: notices.recovered } });
    else if (state.get().notice?.text === notices.inProgress) patch({ notice: null });
    ended(result.state === "completed");
  };

  const cancel = async (key: string, requestId: string | undefined): Promise<void> => {
    if (requestId === undefined) return;
    const heard = running !== null;
    try {
      await deps.cancel(requestId);
      if (!heard) await reload();
    } catch (error) {
      replaceTurn(key, (now) => ({ ...now, stopped: false }));
      patch({ notice: noticeOf(error, null) });
    }
  };

  const follow: Runner["follow"] = async (key, turn, own) => {
    const one: Running = { turn, there: !own };
    running = one;
    moves += 1;
    const endIfStopped = (): void => {
      const isStopped = state.get().turns.some((shown) => shown.key === key && shown.stopped === true);
      if (isStopped) void cancel(key, turn.requestId);
    };
    if (one.there) endIfStopped();
    try {
      const show = (answer: Answer, requestId: string | undefined): void =>
        replaceTurn(key, (now) => ({ ...now, requestId: requestId ?? now.requestId, answer }));
      const result = await followTurn(turn, show, () => {
        if (one.there) return;
        one.there = true;
        changed();
        endIfStopped();
      });
      tell(result, own);
      return result;
    } finally {
      if (running === one) running = null;
      moves += 1;
    }
  };

  const without = (key: string | undefined): readonly TurnView[] =>
    state.get().turns.filter((turn) => turn.key !== key);

  const refuse = (next: TurnView, replaced: TurnView | undefined, error: unknown): void => {
    const others = without(next.key);
    const turns = replaced === undefined ? others : [...others, replaced];
    patch({ turns, notice: noticeOf(error, quota.status.get()) });
  };

  return {
    current: () => running?.turn ?? null,
    stop: () => {
      const turn = last();
      if (turn === undefined || turn.stopped === true || !isRunning(turn)) return;
      replaceTurn(turn.key, (now) => ({ ...now, stopped: true }));
      say("Stopping the answer.");
      if (running === null) void cancel(turn.key, turn.requestId);
      else if (running.there) void cancel(turn.key, running.turn.requestId);
    },
    moves: () => moves,
    follow,
    begin: async (next, start, replaced) => {
      patch({ turns: [...without(replaced?.key), next], notice: null });
      say("Waiting for the answer.");
      try {
        await follow(next.key, start(), true);
        return true;
      } catch (error) {
        // The message arrived before: the chat says what became of it, unless it is still being answered.
        const arrived = hasCode(error, "request_id_conflict") && !isInProgress(error);
        if (!arrived) refuse(next, replaced, error);
        if (arrived || isInProgress(error)) await reload();
        else quota.refresh();
        return false;
      }
    },
    ended,
  };
};
