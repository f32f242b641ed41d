import { follow, type Task } from "./follow.ts";
import type { TurnStatus } from "./generated/api.ts";
import type { Call, Http } from "./http.ts";
import { createJournal } from "./journal.ts";
import type { TurnEvent, TurnResult } from "./model.ts";
import { turnPath } from "./paths.ts";
import type { Progress } from "./progress.ts";

/**
 * An answer on its way. Iterate over it for its events, any number of times: each reader gets all of them
 * from the first. It goes on whether it is read or not; leaving the loop does not end it, the signal does.
 * A refusal is thrown by the loop and by `result`, both as the same `ApiError`.
 */
export interface Turn extends AsyncIterable<TurnEvent> {
  /** Undefined for a retry or edit until the server told the id of the new turn. */
  readonly requestId: string | undefined;
  /** The id the answer will have as a message, once known. */
  readonly messageId: string | undefined;
  /** The text of the answer so far, after recovery that of the stored answer. */
  readonly text: string;
  /** How it ended. Rejects when the server refused to begin, and with the reason of an aborted signal. */
  result(): Promise<TurnResult>;
  /** Stops the answer on the server, keeping what there is; the turn then ends as `cancelled`. */
  cancel(): Promise<TurnStatus>;
}

/** A turn whose id is known from the start. */
export interface IdentifiedTurn extends Turn {
  readonly requestId: string;
}

export interface TurnStart {
  readonly chatId: string;
  readonly requestId: string | undefined;
  readonly begin: Call | null;
  readonly freshId?: boolean;
  readonly continues: boolean | undefined;
  readonly locate?: Task["locate"];
  readonly signal: AbortSignal | undefined;
}

/** Begins to follow a turn at once. */
export const startTurn = (http: Http, start: TurnStart): Turn => {
  const events = createJournal<TurnEvent>();
  const progress: Progress = {
    requestId: start.requestId,
    messageId: undefined,
    text: "",
    citations: [],
    seq: "",
    started: false,
    continues: start.continues,
    broken: false,
    heard: 0,
    opened: 0,
    recovered: undefined,
    emit: events.push,
  };
  const { chatId, begin, freshId = false, locate, signal } = start;
  const result = follow(http, { chatId, progress, begin, freshId, locate, signal });
  // Whoever reads gets the failure; if nobody does it is nobody's.
  result.then(events.end, events.fail);
  return {
    get requestId() {
      return progress.requestId;
    },
    get messageId() {
      return progress.messageId;
    },
    get text() {
      return progress.text;
    },
    result: () => result,
    cancel: async () => {
      if (progress.requestId === undefined) throw new Error("the turn has not begun yet");
      return http.json({ method: "POST", path: `${turnPath(chatId, progress.requestId)}/cancel` });
    },
    [Symbol.asyncIterator]: () => events[Symbol.asyncIterator](),
  };
};
