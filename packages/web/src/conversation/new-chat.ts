import type { Client } from "@mini-chat/client";
import type { ChatList } from "../chats/chat-list.ts";
import { titleOf } from "../chats/name.ts";
import { problemText } from "../lib/problem.ts";
import { currentRoute, goTo } from "../lib/route.ts";
import { createStore, type Store } from "../lib/store.ts";
import type { Conversations } from "./conversations.ts";
import { createWriting, type Draft, type Writing } from "./writing.ts";

/** A chat that does not exist yet: it is created as chosen, with its first message or its first file. */
export interface ChatToBe {
  /** Null for the server's choice. */
  readonly model: Store<string | null>;
  readonly temporary: Store<boolean>;
  /** It is created, or will be in a moment: what was chosen holds. */
  readonly creating: Store<boolean>;
  /** Why it could not be created for a message. */
  readonly problem: Store<string | null>;
  /** Becomes that of the chat, with whatever was written and attached meanwhile. */
  readonly writing: Writing;
  send(draft: Draft): Promise<void>;
  /** Its first message is on its way, or it exists: what is written without looking at it is for another chat. */
  isBegun(): boolean;
}

/** Where chats are begun. */
export interface NewChats {
  /** The chat that is written there: as it was left, or another one if that was begun. */
  open(): ChatToBe;
}

interface NewChatsDeps {
  readonly client: Client;
  readonly chats: ChatList;
  readonly conversations: Conversations;
}

interface ChatToBeDeps extends NewChatsDeps {
  /** The chat that is written where chats are begun. */
  readonly current: () => ChatToBe;
}

const createChatToBe = ({ client, chats, conversations, current }: ChatToBeDeps): ChatToBe => {
  const model = createStore<string | null>(null);
  const temporary = createStore(false);
  const creating = createStore(false);
  const problem = createStore<string | null>(null);
  let created: Promise<string> | null = null;
  let begun = false;

  const create = async (title: string | undefined): Promise<string> => {
    const wanted = model.get();
    creating.set(true);
    try {
      const { id } = await chats.create({
        ...(wanted === null ? {} : { model: wanted }),
        ...(temporary.get() ? { is_temporary: true } : {}),
        ...(title === undefined ? {} : { title }),
      });
      begun = true;
      conversations.begin(id, writing);
      // Who has gone elsewhere meanwhile stays there.
      if (currentRoute().at === "new" && current() === self) goTo({ at: "chat", chatId: id });
      return id;
    } catch (error) {
      created = null;
      begun = false;
      creating.set(false);
      throw error;
    }
  };

  /** The chat, which is shown from then on where it was begun; it is created once, however much waits for it. */
  const chat = (title?: string): Promise<string> => {
    created ??= create(title);
    return created;
  };

  const writing = createWriting(client, chat);

  /** What was written goes to where it is seen. */
  const giveBack = (draft: Draft, error: unknown): void => {
    const seen = current();
    if (seen !== self) seen.writing.giveBack(writing.take());
    seen.writing.giveBack(draft);
    seen.problem.set(problemText(error));
  };

  const self: ChatToBe = {
    model,
    temporary,
    creating,
    problem,
    writing,
    send: async (draft) => {
      if (creating.get()) return writing.giveBack(draft);
      problem.set(null);
      begun = true;
      try {
        const chatId = await chat(titleOf(draft.content));
        void conversations.of(chatId).send(draft);
      } catch (error) {
        giveBack(draft, error);
      }
    },
    isBegun: () => begun,
  };
  return self;
};

export const createNewChats = (deps: NewChatsDeps): NewChats => {
  const start = (): ChatToBe => createChatToBe({ ...deps, current: () => current });
  let current = start();
  return {
    open: () => {
      if (current.isBegun()) current = start();
      return current;
    },
  };
};
