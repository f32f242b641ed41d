import { type Chat, type ChatCreate, type Client, hasCode } from "@mini-chat/client";
import { createStore, type Store } from "../lib/store.ts";
import { titleOf } from "./name.ts";

export interface ChatListState {
  readonly status: "loading" | "ready" | "failed";
  readonly chats: readonly Chat[];
  readonly next: string | null;
  /** The chat that is looked at; it need not be among `chats`, of which only the latest are read. */
  readonly opened: Chat | null;
  readonly problem: unknown;
}

/** A chat that is listed or looked at. */
export const knownChat = ({ chats, opened }: ChatListState, chatId: string): Chat | undefined =>
  chats.find(({ id }) => id === chatId) ?? (opened?.id === chatId ? opened : undefined);

export interface ChatList {
  readonly state: Store<ChatListState>;
  load(): Promise<void>;
  /** Reads the next page, if there is one. */
  more(): Promise<void>;
  create(chat: ChatCreate): Promise<Chat>;
  rename(chatId: string, title: string): Promise<void>;
  /** Names a known chat that has no title after its first message, as well as that goes. */
  entitle(chatId: string, content: string): void;
  remove(chatId: string): Promise<void>;
  /** A turn began in the chat: it is the last active one now. */
  touch(chatId: string): void;
  /** The chat is looked at: when it is not listed, the server is asked for it. */
  open(chatId: string): Promise<void>;
}

const pageSize = 50;

export const createChatList = (client: Client, changed: (chatId: string) => void): ChatList => {
  const state = createStore<ChatListState>({
    status: "loading",
    chats: [],
    next: null,
    opened: null,
    problem: null,
  });
  let loadingMore = false;
  let openedId: string | undefined;

  const replace = (chat: Chat): void => {
    state.update(({ chats, opened, ...now }) => ({
      ...now,
      chats: [chat, ...chats.filter(({ id }) => id !== chat.id)],
      opened: opened?.id === chat.id ? chat : opened,
    }));
  };

  const readOpened = async (chatId: string): Promise<void> => {
    try {
      const opened = await client.chats.get(chatId);
      if (openedId === chatId) state.update((now) => ({ ...now, opened }));
    } catch (error) {
      const gone = openedId === chatId && hasCode(error, "chat_not_found");
      if (gone) state.update((now) => ({ ...now, opened: null }));
    }
  };

  const rename: ChatList["rename"] = async (chatId, title) => {
    replace(await client.chats.rename(chatId, title));
    changed(chatId);
  };

  return {
    state,
    load: async () => {
      try {
        const page = await client.chats.list({ limit: pageSize }).page();
        state.update(({ opened }) => ({
          status: "ready",
          chats: page.items,
          next: page.page_info.next_cursor,
          opened: page.items.find(({ id }) => id === opened?.id) ?? opened,
          problem: null,
        }));
        const { chats, opened } = state.get();
        if (opened !== null && !chats.includes(opened)) void readOpened(opened.id);
      } catch (problem) {
        state.update((now) => ({ ...now, status: now.chats.length > 0 ? "ready" : "failed", problem }));
      }
    },
    more: async () => {
      const { next } = state.get();
      if (next === null || loadingMore) return;
      loadingMore = true;
      try {
        const page = await client.chats.list({ limit: pageSize, cursor: next }).page();
        state.update((now) => {
          const known = new Set(now.chats.map(({ id }) => id));
          const fresh = page.items.filter(({ id }) => !known.has(id));
          return { ...now, chats: [...now.chats, ...fresh], next: page.page_info.next_cursor };
        });
      } catch {
        // The button stays, to be pressed again.
      } finally {
        loadingMore = false;
      }
    },
    create: async (wanted) => {
      const chat = await client.chats.create(wanted);
      replace(chat);
      changed(chat.id);
      return chat;
    },
    rename,
    entitle: (chatId, content) => {
      const chat = knownChat(state.get(), chatId);
      if (chat !== undefined && chat.title === undefined) rename(chatId, titleOf(content)).catch(() => {});
    },
    remove: async (chatId) => {
      await client.chats.remove(chatId);
      state.update(({ chats, opened, ...now }) => ({
        ...now,
        chats: chats.filter(({ id }) => id !== chatId),
        opened: opened?.id === chatId ? null : opened,
      }));
      changed(chatId);
    },
    touch: (chatId) => {
      const chat = knownChat(state.get(), chatId);
      if (chat !== undefined) replace({ ...chat, updated_at: new Date().toISOString() });
    },
    open: async (chatId) => {
      openedId = chatId;
      const opened = knownChat(state.get(), chatId);
      if (opened === undefined) await readOpened(chatId);
      else state.update((now) => ({ ...now, opened }));
    },
  };
};
