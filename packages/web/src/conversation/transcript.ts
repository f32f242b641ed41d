import type { Client, Message } from "@mini-chat/client";
import { createStore, type Store } from "../lib/store.ts";
import { type Notice, noticeOf } from "./notice.ts";
import { isPartial } from "./resolve.ts";
import { sourcesOf } from "./sources.ts";
import { joinTurns, type TurnView, turnsOf } from "./turn-view.ts";

export interface ConversationState {
  readonly status: "loading" | "ready" | "failed";
  readonly problem: unknown;
  readonly turns: readonly TurnView[];
  /** Cursor of the older messages; null when all are there. */
  readonly older: string | null;
  readonly notice: Notice | null;
}

/** Turns that were read together, oldest first. */
export interface TurnPage {
  readonly turns: readonly TurnView[];
  /** Cursor of the older messages; null when there are none. */
  readonly older: string | null;
}

/** What of a chat has been read, and is shown. */
export interface Transcript {
  readonly state: Store<ConversationState>;
  patch(change: Partial<ConversationState>): void;
  replaceTurn(key: string, change: (turn: TurnView) => TurnView): void;
  last(): TurnView | undefined;
  readPage(cursor?: string): Promise<TurnPage>;
  loadOlder(): Promise<void>;
  /**
   * Lists of messages leave sources out; a chat that is not too long is asked for them as a whole, once for the
   * newest answer whose sources are not known.
   */
  cite(): Promise<void>;
  /** Lists of messages do not tell whether an answer is whole; the status of the newest one's turn does, asked once. */
  qualify(): Promise<void>;
  /** Shown at once, and taken back when the server refuses it. */
  react(messageId: string, reaction: "like" | "dislike" | null): Promise<void>;
}

const pageSize = 50;

export const createTranscript = (chatId: string, client: Client): Transcript => {
  const state = createStore<ConversationState>({
    status: "loading",
    problem: null,
    turns: [],
    older: null,
    notice: null,
  });
  let loadingOlder = false;
  let sources: Awaited<ReturnType<typeof sourcesOf>> = null;
  let citedTo: string | undefined;
  let qualified: string | undefined;

  const patch = (change: Partial<ConversationState>): void => state.set({ ...state.get(), ...change });
  const replaceTurn = (key: string, change: (turn: TurnView) => TurnView): void =>
    patch({ turns: state.get().turns.map((turn) => (turn.key === key ? change(turn) : turn)) });

  const withSources = (turns: readonly TurnView[]): readonly TurnView[] =>
    turns.map((turn) => {
      const { messageId, citations } = turn.answer;
      const found = messageId === undefined ? undefined : sources?.get(messageId);
      return found === undefined || citations !== null
        ? turn
        : { ...turn, answer: { ...turn.answer, citations: found } };
    });

  const readPage: Transcript["readPage"] = async (cursor) => {
    const page = await client
      .messages(chatId, {
        limit: pageSize,
        ...(cursor === undefined ? { orderby: "created_at desc" } : { cursor }),
      })
      .page();
    const messages: readonly Message[] = page.items.toReversed();
    return { turns: withSources(turnsOf(messages)), older: page.page_info.next_cursor };
  };

  return {
    state,
    patch,
    replaceTurn,
    last: () => state.get().turns.at(-1),
    readPage,
    loadOlder: async () => {
      const { older } = state.get();
      if (older === null || loadingOlder) return;
      loadingOlder = true;
      try {
        const page = await readPage(older);
        patch({ turns: joinTurns(page.turns, state.get().turns), older: page.older });
      } finally {
        loadingOlder = false;
      }
    },
    cite: async () => {
      const newest = state.get().turns.findLast(({ answer }) => answer.citations === null)?.answer.messageId;
      if (newest === undefined || newest === citedTo) return;
      citedTo = newest;
      try {
        sources = await sourcesOf(client, chatId);
        patch({ turns: withSources(state.get().turns) });
      } catch {
        // Looked for again when the chat is read again.
        citedTo = undefined;
      }
    },
    qualify: async () => {
      const newest = state.get().turns.at(-1);
      if (newest?.requestId === undefined || newest.answer.state !== "done") return;
      const { messageId, done } = newest.answer;
      // What was heard to its end here is whole.
      if (done !== null || messageId === qualified) return;
      qualified = messageId;
      try {
        if (!(await isPartial(client, chatId, newest.requestId))) return;
        replaceTurn(newest.key, (now) =>
          now.answer.messageId === messageId
            ? { ...now, answer: { ...now.answer, state: "cancelled" } }
            : now,
        );
      } catch {
        // Asked again when the chat is read again.
        qualified = undefined;
      }
    },
    react: async (messageId, reaction) => {
      const turn = state.get().turns.find(({ answer }) => answer.messageId === messageId);
      if (turn === undefined) return;
      const mark = (value: typeof reaction): void =>
        replaceTurn(turn.key, (now) => ({ ...now, answer: { ...now.answer, reaction: value } }));
      mark(reaction);
      try {
        if (reaction === null) await client.reactions.remove(chatId, messageId);
        else await client.reactions.set(chatId, messageId, reaction);
      } catch (error) {
        mark(turn.answer.reaction);
        patch({ notice: noticeOf(error, null) });
      }
    },
  };
};
