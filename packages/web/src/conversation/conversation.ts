import type { Client, Message, SendMessage, Turn } from "@mini-chat/client";
import { isInProgress } from "@mini-chat/client";
import { createStore, type Store } from "../lib/store.ts";
import type { Quota } from "../quota/quota.ts";
import { followTurn } from "./follow.ts";
import { type Notice, noticeOf, notices } from "./notice.ts";
import { resolveLast } from "./resolve.ts";
import { sourcesOf } from "./sources.ts";
import {
  type Answer,
  emptyAnswer,
  isRunning,
  joinTurns,
  keepKnown,
  type Question,
  type TurnView,
  turnsOf,
} from "./turn-view.ts";

export interface ConversationState {
  readonly status: "loading" | "ready" | "failed";
  readonly problem: unknown;
  readonly turns: readonly TurnView[];
  /** Cursor of the older messages; null when all are there. */
  readonly older: string | null;
  readonly notice: Notice | null;
}

export interface Draft {
  readonly content: string;
  readonly attachments: Question["attachments"];
  readonly webSearch: boolean;
}

export interface Conversation {
  readonly chatId: string;
  readonly state: Store<ConversationState>;
  load(): Promise<void>;
  loadOlder(): Promise<void>;
  /** A message that was refused: it belongs back into the composer. */
  readonly returned: Store<Draft | null>;
  send(draft: Draft): Promise<void>;
  /** The message whose delivery is uncertain once more, under the same id: it cannot be answered twice. */
  resend(): Promise<void>;
  retry(): Promise<void>;
  edit(content: string): Promise<void>;
  removeLast(): Promise<void>;
  stop(): void;
  react(messageId: string, reaction: "like" | "dislike" | null): Promise<void>;
  dismiss(): void;
}

export interface ConversationDeps {
  readonly client: Client;
  readonly quota: Quota;
  /** Tells the list and other tabs that a turn began or ended. */
  readonly changed: (chatId: string) => void;
  readonly say: (text: string) => void;
}

const pageSize = 50;

export const createConversation = (chatId: string, deps: ConversationDeps): Conversation => {
  const { client, quota, changed, say } = deps;
  const state = createStore<ConversationState>({
    status: "loading",
    problem: null,
    turns: [],
    older: null,
    notice: null,
  });
  const returned = createStore<Draft | null>(null);
  let running: Turn | null = null;
  let sent: SendMessage | null = null;
  /** Of turns that began or ended here: what was read before is not how it is any more. */
  let moves = 0;
  let loadingOlder = false;
  let cited = false;

  const patch = (change: Partial<ConversationState>): void => state.set({ ...state.get(), ...change });
  const replaceTurn = (key: string, change: (turn: TurnView) => TurnView): void =>
    patch({ turns: state.get().turns.map((turn) => (turn.key === key ? change(turn) : turn)) });
  const last = (): TurnView | undefined => state.get().turns.at(-1);

  const readPage = async (cursor?: string): Promise<{ turns: readonly TurnView[]; older: string | null }> => {
    const page = await client
      .messages(chatId, {
        limit: pageSize,
        ...(cursor === undefined ? { orderby: "created_at desc" } : { cursor }),
      })
      .page();
    const messages: readonly Message[] = page.items.toReversed();
    return { turns: turnsOf(messages), older: page.page_info.next_cursor };
  };

  /** Follows a turn to its end, `own` when it was begun here; rejects with the refusal of the call that begins it. */
  const follow = async (key: string, turn: Turn, own: boolean): Promise<void> => {
    running = turn;
    moves += 1;
    try {
      const show = (answer: Answer, requestId: string | undefined): void =>
        replaceTurn(key, (now) => ({ ...now, requestId: requestId ?? now.requestId, answer }));
      const result = await followTurn(turn, show, () => own && changed(chatId));
      if (result.state === "completed") sent = null;
      // Of a turn that was looked up here the reader never missed anything.
      const recovered = own && last()?.answer.recovered === true;
      if (result.state === "uncertain") patch({ notice: { kind: "warning", text: notices.uncertain } });
      else if (recovered) patch({ notice: { kind: "info", text: notices.recovered } });
      say(result.state === "completed" ? "The answer is complete." : "The answer has ended.");
      quota.refresh();
      changed(chatId);
    } finally {
      if (running === turn) running = null;
      moves += 1;
    }
  };

  const attach = (turn: TurnView): void => {
    const { key, requestId } = turn;
    if (requestId === undefined || running !== null) return;
    const resumed = client.turns.resume(chatId, requestId);
    follow(key, resumed, false).catch(() => void load());
  };

  /** Lists of messages leave sources out; a chat that is not too long is asked for them once, as a whole. */
  const cite = async (): Promise<void> => {
    if (cited) return;
    cited = true;
    const sources = await sourcesOf(client, chatId).catch(() => null);
    if (sources === null) return;
    patch({
      turns: state.get().turns.map((turn) => {
        const { messageId, citations } = turn.answer;
        const found = messageId === undefined ? undefined : sources.get(messageId);
        return found === undefined || citations.length > 0
          ? turn
          : { ...turn, answer: { ...turn.answer, citations: found } };
      }),
    });
  };

  const load = async (): Promise<void> => {
    const seen = moves;
    try {
      const { turns, older } = await readPage();
      if (running !== null) {
        // Asked before the chat was read: what was there before goes above it.
        const { status, turns: shown } = state.get();
        const known = new Set(shown.map(({ requestId }) => requestId));
        const before = turns.filter(({ requestId }) => !known.has(requestId));
        if (status === "loading") patch({ status: "ready", turns: [...before, ...shown], older });
        return;
      }
      if (moves !== seen) return load();
      const resolved = await resolveLast(client, chatId, turns);
      if (moves !== seen) return load();
      patch({ status: "ready", problem: null, turns: keepKnown(resolved, state.get().turns), older });
      void cite();
      const latest = resolved.at(-1);
      if (latest !== undefined && isRunning(latest)) attach(latest);
    } catch (problem) {
      if (state.get().status !== "ready") patch({ status: "failed", problem });
    }
  };

  /** Begins a turn in the place of the last one, or after it; puts back what was there when it is refused. */
  const begin = async (turns: readonly TurnView[], next: TurnView, start: () => Turn): Promise<boolean> => {
    const before = state.get().turns;
    patch({ turns: [...turns, next], notice: null });
    say("Waiting for the answer.");
    try {
      await follow(next.key, start(), true);
      return true;
    } catch (error) {
      patch({ turns: before, notice: noticeOf(error, quota.status.get()) });
      if (isInProgress(error)) await load();
      else quota.refresh();
      return false;
    }
  };

  const replacement = (turn: TurnView, question: Question | undefined): TurnView => ({
    key: crypto.getRandomValues(new Uint32Array(2)).join("-"),
    requestId: undefined,
    question,
    answer: { ...emptyAnswer("waiting"), model: turn.answer.model },
  });

  const revise = async (content: string | null): Promise<void> => {
    const turn = last();
    const requestId = turn?.requestId;
    if (turn === undefined || requestId === undefined || running !== null) return;
    const question =
      content === null || turn.question === undefined ? turn.question : { ...turn.question, content };
    await begin(state.get().turns.slice(0, -1), replacement(turn, question), () =>
      content === null
        ? client.turns.retry(chatId, requestId, { on_disconnect: "continue" })
        : client.turns.edit(chatId, requestId, { content, on_disconnect: "continue" }),
    );
  };

  const transmit = (
    message: SendMessage,
    turns: readonly TurnView[],
    question: Question | undefined,
  ): Promise<boolean> => {
    const turn = client.send(chatId, message);
    const { requestId } = turn;
    sent = { ...message, request_id: requestId };
    const next = { key: requestId, requestId, question, answer: emptyAnswer("waiting") };
    return begin(turns, next, () => turn);
  };

  return {
    chatId,
    state,
    load,
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
    returned,
    send: async (draft) => {
      const { content, attachments, webSearch } = draft;
      const message = {
        content,
        on_disconnect: "continue",
        ...(attachments.length === 0 ? {} : { attachment_ids: attachments.map((one) => one.attachment_id) }),
        ...(webSearch ? { web_search: { enabled: true } } : {}),
      } as const;
      const question = { content, attachments, createdAt: new Date().toISOString() };
      if (!(await transmit(message, state.get().turns, question))) returned.set(draft);
    },
    resend: async () => {
      const turn = last();
      if (turn === undefined || running !== null) return;
      if (sent?.request_id === undefined || sent.request_id !== turn.requestId) {
        patch({ notice: null });
        await load();
        return;
      }
      await transmit(sent, state.get().turns.slice(0, -1), turn.question);
    },
    retry: () => revise(null),
    edit: (content) => revise(content),
    removeLast: async () => {
      const requestId = last()?.requestId;
      if (requestId === undefined) return;
      await client.turns.remove(chatId, requestId);
      patch({ turns: state.get().turns.slice(0, -1), notice: null });
      say("The last message was deleted.");
      changed(chatId);
    },
    stop: () => {
      if (running?.requestId === undefined) return;
      running.cancel().catch((error: unknown) => patch({ notice: noticeOf(error, null) }));
    },
    react: async (messageId, reaction) => {
      const key = state.get().turns.find(({ answer }) => answer.messageId === messageId)?.key;
      if (key === undefined) return;
      const mark = (value: typeof reaction): void =>
        replaceTurn(key, (turn) => ({ ...turn, answer: { ...turn.answer, reaction: value } }));
      const before = state.get().turns.find((turn) => turn.key === key)?.answer.reaction ?? null;
      mark(reaction);
      try {
        if (reaction === null) await client.reactions.remove(chatId, messageId);
        else await client.reactions.set(chatId, messageId, reaction);
      } catch (error) {
        mark(before);
        patch({ notice: noticeOf(error, null) });
      }
    },
    dismiss: () => patch({ notice: null }),
  };
};
