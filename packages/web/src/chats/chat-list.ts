import type { Chat, ChatCreate, Client } from "@mini-chat/client";
import { createStore, type Store } from "../lib/store.ts";
import { titleOf } from "./name.ts";

export interface ChatListState {
  readonly status: "loading" | "ready" | "failed";
  readonly chats: readonly Chat[];
  readonly next: string | null;
  readonly problem: unknown;
}

export interface ChatList {
  readonly state: Store<ChatListState>;
  load(): Promise<void>;
  /** Reads the next page, if there is one. */
  more(): Promise<void>;
  create(chat: ChatCreate): Promise<Chat>;
  rename(chatId: string, title: string): Promise<void>;
  /** Names a listed chat that has no title after its first message, as well as that goes. */
  entitle(chatId: string, content: string): void;
  remove(chatId: string): Promise<void>;
  /** A turn began in the chat: it is the last active one now. */
  touch(chatId: string): void;
  /** From the list, or from the server. */
  find(chatId: string): Promise<Chat>;
}

const pageSize = 50;

export const createChatList = (client: Client, changed: (chatId: string) => void): ChatList => {
  const state = createStore<ChatListState>({ status: "loading", chats: [], next: null, problem: null });
  let loadingMore = false;

  const replace = (chat: Chat): void => {
    const rest = state.get().chats.filter(({ id }) => id !== chat.id);
    state.set({ ...state.get(), chats: [chat, ...rest] });
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
        state.set({ status: "ready", chats: page.items, next: page.page_info.next_cursor, problem: null });
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
      const chat = state.get().chats.find(({ id }) => id === chatId);
      if (chat !== undefined && chat.title === undefined) rename(chatId, titleOf(content)).catch(() => {});
    },
    remove: async (chatId) => {
      await client.chats.remove(chatId);
      state.update((now) => ({ ...now, chats: now.chats.filter(({ id }) => id !== chatId) }));
      changed(chatId);
    },
    touch: (chatId) => {
      const chat = state.get().chats.find(({ id }) => id === chatId);
      if (chat !== undefined) replace({ ...chat, updated_at: new Date().toISOString() });
    },
    find: async (chatId) =>
      state.get().chats.find(({ id }) => id === chatId) ?? (await client.chats.get(chatId)),
  };
};
