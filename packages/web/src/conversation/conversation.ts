import { type Client, hasCode, type SendMessage, type Turn } from "@mini-chat/client";
import { createStore, type Store } from "../lib/store.ts";
import type { Quota } from "../quota/quota.ts";
import { createLookout } from "./lookout.ts";
import { isRefuted } from "./notice.ts";
import { resolveLast } from "./resolve.ts";
import { createRunner } from "./runner.ts";
import { type ConversationState, createTranscript, type TurnPage } from "./transcript.ts";
import {
  type Edit,
  emptyAnswer,
  isRunning,
  joinShown,
  keepKnown,
  type Question,
  type TurnView,
} from "./turn-view.ts";
import { identify, isUndelivered, keepUndelivered } from "./undelivered.ts";
import { createWriting, type Draft, type Writing } from "./writing.ts";

export interface Conversation {
  readonly chatId: string;
  readonly state: Store<ConversationState>;
  load(): Promise<void>;
  /** Reads the chat, which is looked at until the result is called: a running answer is shown however it comes. */
  watch(): () => void;
  loadOlder(): Promise<void>;
  readonly writing: Writing;
  /** Sends a message; one that is refused goes back to `writing`. */
  send(draft: Draft): Promise<void>;
  /** What may not have arrived once more: a message under the same id, an edit or retry unless the chat shows it. */
  resend(): Promise<void>;
  retry(): Promise<void>;
  /** The latest message while it is written anew; when it is refused it is still there. */
  readonly editing: Store<Edit | null>;
  edit(content: string): Promise<void>;
  removeLast(): Promise<void>;
  /** Stops the answer that is on its way. */
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

/** `writing`: the next message, if it was begun before the chat was there. */
export const createConversation = (
  chatId: string,
  deps: ConversationDeps,
  writing: Writing = createWriting(deps.client, () => Promise.resolve(chatId)),
): Conversation => {
  const { client, quota, changed, say } = deps;
  const transcript = createTranscript(chatId, client);
  const { state, patch, last, replaceTurn } = transcript;
  const editing = createStore<Edit | null>(null);

  const load = async (): Promise<void> => {
    const seen = runner.moves();
    try {
      const page = await transcript.readPage();
      if (runner.current() !== null) return putAbove(page);
      if (runner.moves() !== seen) return load();
      const turns = await resolveLast(client, chatId, page.turns);
      if (runner.moves() !== seen) return load();
      showRead({ ...page, turns });
    } catch (problem) {
      miss(problem);
    }
  };

  /** What was read although a turn is followed: when it was asked before the chat was read, the others go above it. */
  const putAbove = ({ turns, older }: TurnPage): void => {
    const { status, turns: shown } = state.get();
    if (status === "ready") return;
    const known = new Set(shown.map(({ requestId }) => requestId));
    const before = turns.filter(({ requestId }) => !known.has(requestId));
    patch({ status: "ready", problem: null, turns: [...before, ...shown], older });
  };

  const showRead = (page: TurnPage): void => {
    const { older, notice, turns: before } = state.get();
    const wasUnheard = isUnheard();
    const shown = identify(before, page.turns);
    const joined = joinShown(shown, page.turns);
    const read = keepKnown(joined ?? page.turns, shown);
    const turns = keepUndelivered(read, shown);
    patch({
      status: "ready",
      problem: null,
      turns,
      older: joined === null ? page.older : older,
      notice: notice !== null && isRefuted(notice, turns) ? null : notice,
    });
    void transcript.cite();
    void transcript.qualify();
    const latest = read.at(-1);
    if (latest !== undefined && isRunning(latest)) void attach(latest);
    else if (wasUnheard) runner.ended(latest?.answer.state === "done");
  };

  const miss = (problem: unknown): void => {
    if (hasCode(problem, "chat_not_found")) {
      // Deleted elsewhere: nothing comes of it any more.
      patch({ status: "failed", problem, turns: [], older: null, notice: null });
      return;
    }
    if (state.get().status !== "ready") patch({ status: "failed", problem });
    if (state.get().status !== "ready" || isUnheard()) lookout.afterPause();
  };

  const runner = createRunner({
    transcript,
    quota,
    changed: () => changed(chatId),
    say,
    cancel: (requestId) => client.turns.cancel(chatId, requestId),
    reload: load,
  });

  const lookout = createLookout(() => void load());

  /** A turn is being answered, as far as is known, and not followed here. */
  const isUnheard = (): boolean => runner.current() === null && state.get().turns.some(isRunning);

  const attach = async ({ key, requestId }: TurnView): Promise<void> => {
    if (requestId === undefined || runner.current() !== null) return;
    try {
      const result = await runner.follow(key, client.turns.resume(chatId, requestId), false);
      lookout.reset();
      if (result.state !== "uncertain" || result.reason !== "still_running") return;
      // It may go on elsewhere, and cannot be heard from here: how it ends is looked for again.
      replaceTurn(key, (now) => ({ ...now, answer: { ...now.answer, state: "waiting" } }));
      lookout.soon();
    } catch {
      lookout.afterPause();
    }
  };

  const revise = async (content: string | null): Promise<boolean> => {
    const turn = last();
    const requestId = turn?.requestId;
    if (turn === undefined || requestId === undefined || runner.current() !== null) return false;
    const again = (): Turn =>
      content === null
        ? client.turns.retry(chatId, requestId, { on_disconnect: "continue" })
        : client.turns.edit(chatId, requestId, { content, on_disconnect: "continue" });
    const { question, answer } = turn;
    const next = {
      key: crypto.getRandomValues(new Uint32Array(2)).join("-"),
      requestId: undefined,
      own: true,
      attempt: { replaces: requestId, again },
      question: content === null || question === undefined ? question : { ...question, content },
      answer: { ...emptyAnswer("waiting"), model: answer.model },
    } as const;
    return runner.begin(next, again, turn);
  };

  const transmit = (message: SendMessage, question: Question): Promise<boolean> => {
    const turn = client.send(chatId, message);
    const { requestId } = turn;
    const again = (): Turn => client.send(chatId, { ...message, request_id: requestId });
    const next = {
      key: requestId,
      requestId,
      own: true,
      attempt: { replaces: undefined, again },
      question,
      answer: emptyAnswer("waiting"),
    } as const;
    return runner.begin(next, () => turn);
  };

  return {
    chatId,
    state,
    load,
    watch: lookout.keep,
    loadOlder: transcript.loadOlder,
    writing,
    send: async (draft) => {
      const { content, attachments, webSearch } = draft;
      const message = {
        content,
        on_disconnect: "continue",
        ...(attachments.length === 0 ? {} : { attachment_ids: attachments.map((one) => one.attachment_id) }),
        ...(webSearch ? { web_search: { enabled: true } } : {}),
      } as const;
      const question = { content, attachments, createdAt: new Date().toISOString() };
      if (!(await transmit(message, question))) writing.giveBack(draft);
    },
    resend: async () => {
      if (runner.current() !== null) return;
      const turn = last();
      if (!isUndelivered(turn) || turn.attempt.replaces !== undefined) await load();
      const left = last();
      if (!isUndelivered(left) || runner.current() !== null) return;
      const answer = { ...emptyAnswer("waiting"), model: left.answer.model };
      await runner.begin({ ...left, stopped: false, answer }, left.attempt.again, left);
    },
    retry: async () => {
      await revise(null);
    },
    editing,
    edit: async (content) => {
      if (await revise(content)) editing.set(null);
    },
    removeLast: async () => {
      const requestId = last()?.requestId;
      if (requestId === undefined) return;
      await client.turns.remove(chatId, requestId);
      patch({ turns: state.get().turns.slice(0, -1), notice: null });
      say("The last message was deleted.");
      changed(chatId);
    },
    stop: runner.stop,
    react: transcript.react,
    dismiss: () => patch({ notice: null }),
  };
};
