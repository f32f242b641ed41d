import type { AttachmentSummary, Citation, DoneEvent, Message, Turn } from "@mini-chat/client";
import { type Part, splitMarkdown } from "../markdown/blocks.ts";

export interface Question {
  readonly content: string;
  readonly attachments: readonly AttachmentSummary[];
  readonly createdAt: string | undefined;
}

/** A tool the answer used, or uses right now. */
export interface ToolUse {
  readonly name: string;
  readonly running: boolean;
}

export type AnswerState =
  /** Asked, nothing has come yet. */
  | "waiting"
  | "streaming"
  /** The connection broke; the outcome is being looked for. */
  | "interrupted"
  | "done"
  | "failed"
  | "cancelled"
  | "uncertain"
  /** There is no answer, and why is not known. */
  | "none";

export interface Answer {
  readonly state: AnswerState;
  readonly messageId: string | undefined;
  readonly parts: readonly Part[];
  readonly text: () => string;
  readonly model: string | undefined;
  readonly createdAt: string | undefined;
  readonly reaction: "like" | "dislike" | null;
  /** Null while they are not known: lists of messages leave them out. */
  readonly citations: readonly Citation[] | null;
  readonly tools: readonly ToolUse[];
  readonly done: DoneEvent | null;
  /** A code of api.md §5.3, with `failed`. */
  readonly failure: string | undefined;
  readonly recovered: boolean;
}

/** How a turn was begun here. */
export interface Attempt {
  /** The `request_id` of the turn whose place it takes; undefined for a message. */
  readonly replaces: string | undefined;
  /** Begins it again; the server refuses to do it twice. */
  readonly again: () => Turn;
}

/** A question and its answer, as they are shown; replaced as a whole when anything changes. */
export interface TurnView {
  readonly key: string;
  readonly requestId: string | undefined;
  /** Undefined while the older page that holds it has not been read. */
  readonly question: Question | undefined;
  readonly answer: Answer;
  /** Begun on this page. */
  readonly own?: true;
  readonly attempt?: Attempt;
  /** The reader asked for its end, on this page. */
  readonly stopped?: boolean;
}

/** The latest message while it is written anew. */
export interface Edit {
  /** Of its turn. */
  readonly key: string;
  readonly text: string;
}

export const isRunningState = (state: AnswerState): boolean =>
  state === "waiting" || state === "streaming" || state === "interrupted";

export const isRunning = ({ answer }: TurnView): boolean => isRunningState(answer.state);

export const emptyAnswer = (state: AnswerState): Answer => ({
  state,
  messageId: undefined,
  parts: [],
  text: () => "",
  model: undefined,
  createdAt: undefined,
  reaction: null,
  citations: [],
  tools: [],
  done: null,
  failure: undefined,
  recovered: false,
});

const questionOf = ({ content, attachments, created_at }: Message): Question => ({
  content,
  attachments,
  createdAt: created_at,
});

const answerOf = (message: Message): Answer => ({
  ...emptyAnswer("done"),
  messageId: message.id,
  citations: null,
  parts: splitMarkdown(message.content),
  text: () => message.content,
  model: message.model,
  createdAt: message.created_at,
  reaction: message.my_reaction,
});

/** Messages, oldest first, as turns: neighbours of one `request_id` belong together. */
export const turnsOf = (messages: readonly Message[]): readonly TurnView[] => {
  const turns: TurnView[] = [];
  for (const message of messages) {
    const last = turns.at(-1);
    if (message.role === "user") {
      const question = questionOf(message);
      const { request_id: requestId } = message;
      turns.push({ key: requestId, requestId, question, answer: emptyAnswer("none") });
    } else if (last !== undefined && last.requestId === message.request_id) {
      turns[turns.length - 1] = { ...last, answer: answerOf(message) };
    } else {
      const { request_id: requestId } = message;
      turns.push({ key: requestId, requestId, question: undefined, answer: answerOf(message) });
    }
  }
  return turns;
};

/** Puts an older page before what is there; the turn at the seam may be in both. */
export const joinTurns = (older: readonly TurnView[], newer: readonly TurnView[]): readonly TurnView[] => {
  const [seam, ...rest] = newer;
  const last = older.at(-1);
  if (seam === undefined || last === undefined || last.requestId !== seam.requestId)
    return [...older, ...newer];
  return [...older.slice(0, -1), { ...seam, question: seam.question ?? last.question }, ...rest];
};

/** The newest turns, read again, behind the older ones that are shown; null when turns between them were not read. */
export const joinShown = (
  shown: readonly TurnView[],
  newest: readonly TurnView[],
): readonly TurnView[] | null => {
  const [first] = newest;
  const seam = first === undefined ? -1 : shown.findIndex(({ requestId }) => requestId === first.requestId);
  return seam === -1 ? null : joinTurns(shown.slice(0, seam + 1), newest);
};

const hasEnded = ({ answer: { state, messageId } }: TurnView): boolean =>
  (state === "done" || state === "cancelled") && messageId !== undefined;

/**
 * What was read again, with what is only known here of the same turns: their keys, that the reader stopped them, and of
 * answers their tools and sources, how they came about and how they ended.
 */
export const keepKnown = (read: readonly TurnView[], shown: readonly TurnView[]): readonly TurnView[] => {
  const known = new Map(shown.map((turn) => [turn.requestId, turn]));
  return read.map((turn) => {
    const before = known.get(turn.requestId);
    if (before === undefined) return turn;
    const { key, stopped } = before;
    const { messageId, reaction } = turn.answer;
    if (!hasEnded(before) || before.answer.messageId !== messageId) {
      return stopped === true ? { ...turn, key, stopped } : { ...turn, key };
    }
    const question = before.question ?? turn.question;
    return before.answer.reaction === reaction && before.question === question
      ? before
      : { ...before, question, answer: { ...before.answer, reaction } };
  });
};
