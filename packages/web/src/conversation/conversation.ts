import type { Client, SendMessage, Turn } from "@mini-chat/client";
import { createStore, type Store } from "../lib/store.ts";
import type { Quota } from "../quota/quota.ts";
import { createLookout } from "./lookout.ts";
import { resolveLast } from "./resolve.ts";
import { createRunner } from "./runner.ts";
import { type ConversationState, createTranscript } from "./transcript.ts";
import {
  type Edit,
  emptyAnswer,
  isRunning,
  joinShown,
  keepKnown,
  type Question,
  type TurnView,
} from "./turn-view.ts";
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
  /** The message whose delivery is uncertain once more, under the same id: it cannot be answered twice. */
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
  const { state, patch, last } = transcript;
  const editing = createStore<Edit | null>(null);
  let sent: SendMessage | null = null;

  const load = async (): Promise<void> => {
    const seen = runner.moves();
    try {
      const { turns, older } = await transcript.readPage();
      if (runner.current() !== null) {
        // Asked before the chat was read: what was there before goes above it.
        const { status, turns: shown } = state.get();
        const known = new Set(shown.map(({ requestId }) => requestId));
        const before = turns.filter(({ requestId }) => !known.has(requestId));
        if (status === "loading") patch({ status: "ready", turns: [...before, ...shown], older });
        return;
      }
      if (runner.moves() !== seen) return load();
      const resolved = await resolveLast(client, chatId, turns);
      if (runner.moves() !== seen) return load();
      const { turns: shown, older: before } = state.get();
      const joined = joinShown(shown, resolved);
      const read = keepKnown(joined ?? resolved, shown);
      patch({ status: "ready", problem: null, turns: read, older: joined === null ? older : before });
      void transcript.cite();
      void transcript.qualify();
      const latest = resolved.at(-1);
      if (latest !== undefined && isRunning(latest)) void attach(latest);
    } catch (problem) {
      if (state.get().status !== "ready") patch({ status: "failed", problem });
      else if (isUnheard()) lookout.afterPause();
    }
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

  /** The latest turn is being answered, as far as is known, and not followed here. */
  const isUnheard = (): boolean => {
    const latest = last();
    return latest !== undefined && isRunning(latest) && runner.current() === null;
  };

  const attach = async ({ key, requestId }: TurnView): Promise<void> => {
    if (requestId === undefined || runner.current() !== null) return;
    try {
      const result = await runner.follow(key, client.turns.resume(chatId, requestId), false);
      lookout.reset();
      // It may go on elsewhere, and cannot be heard from here: how it ends is looked for again.
      if (result.state === "uncertain" && result.reason === "still_running") lookout.soon();
    } catch {
      lookout.afterPause();
    }
  };

  const begin = async (turns: readonly TurnView[], next: TurnView, start: () => Turn): Promise<boolean> => {
    const result = await runner.begin(turns, next, start);
    if (result?.state === "completed") sent = null;
    return result !== null;
  };

  const replacement = (turn: TurnView, question: Question | undefined): TurnView => ({
    key: crypto.getRandomValues(new Uint32Array(2)).join("-"),
    requestId: undefined,
    own: true,
    question,
    answer: { ...emptyAnswer("waiting"), model: turn.answer.model },
  });

  const revise = async (content: string | null): Promise<boolean> => {
    const turn = last();
    const requestId = turn?.requestId;
    if (turn === undefined || requestId === undefined || runner.current() !== null) return false;
    const question =
      content === null || turn.question === undefined ? turn.question : { ...turn.question, content };
    return begin(state.get().turns.slice(0, -1), replacement(turn, question), () =>
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
    const next = { key: requestId, requestId, own: true, question, answer: emptyAnswer("waiting") } as const;
    return begin(turns, next, () => turn);
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
      if (!(await transmit(message, state.get().turns, question))) writing.giveBack(draft);
    },
    resend: async () => {
      const turn = last();
      if (turn === undefined || runner.current() !== null) return;
      if (sent?.request_id === undefined || sent.request_id !== turn.requestId) {
        patch({ notice: null });
        await load();
        return;
      }
      await transmit(sent, state.get().turns.slice(0, -1), turn.question);
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
