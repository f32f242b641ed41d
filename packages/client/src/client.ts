import { type Attachments, createAttachments } from "./attachments.ts";
import type {
  Chat,
  ChatCreate,
  ExportedChat,
  Model,
  QuotaStatus,
  Reaction,
  SendMessage,
} from "./generated/api.ts";
import { type CallOptions, type ClientOptions, createHttp, type Http } from "./http.ts";
import { createListing, type Listing, queryOf } from "./listing.ts";
import type { ChatQuery, Message, MessageQuery, SearchHit } from "./model.ts";
import { chatPath } from "./paths.ts";
import type { IdentifiedTurn } from "./turn.ts";
import { createTurns, send, type Turns } from "./turns.ts";

interface Exports {
  readonly markdown: string;
  readonly json: ExportedChat;
}

export interface Chats {
  create(chat?: ChatCreate, options?: CallOptions): Promise<Chat>;
  /** One's chats, the last active first. */
  list<Key extends keyof Chat = keyof Chat>(
    query?: ChatQuery<Key>,
    options?: CallOptions,
  ): Listing<Pick<Chat, Key>>;
  get(chatId: string, options?: CallOptions): Promise<Chat>;
  rename(chatId: string, title: string, options?: CallOptions): Promise<Chat>;
  remove(chatId: string, options?: CallOptions): Promise<void>;
  /** The whole chat, as Markdown or as data. */
  export<Format extends keyof Exports>(
    chatId: string,
    format: Format,
    options?: CallOptions,
  ): Promise<Exports[Format]>;
}

export interface Reactions {
  set(
    chatId: string,
    messageId: string,
    reaction: "like" | "dislike",
    options?: CallOptions,
  ): Promise<Reaction>;
  remove(chatId: string, messageId: string, options?: CallOptions): Promise<void>;
}

export interface Models {
  list(options?: CallOptions): Promise<readonly Model[]>;
  get(modelId: string, options?: CallOptions): Promise<Model>;
}

export interface Client {
  readonly chats: Chats;
  readonly turns: Turns;
  readonly attachments: Attachments;
  readonly reactions: Reactions;
  readonly models: Models;
  /** The messages of a chat, oldest first. */
  messages<Key extends keyof Message = keyof Message>(
    chatId: string,
    query?: MessageQuery<Key>,
    options?: CallOptions,
  ): Listing<Pick<Message, Key>>;
  /** Sends a message at once and follows its answer. */
  send(chatId: string, message: SendMessage, options?: CallOptions): IdentifiedTurn;
  quota(options?: CallOptions): Promise<QuotaStatus>;
  /** Finds in one's own chats (docs/search-and-export.md). */
  search(
    words: string,
    query?: { readonly limit?: number; readonly cursor?: string },
    options?: CallOptions,
  ): Listing<SearchHit>;
}

const createChats = (http: Http): Chats => ({
  create: (chat = {}, { signal } = {}) => http.json({ method: "POST", path: "/chats", body: chat, signal }),
  list: (query = {}, { signal } = {}) => createListing(http, "/chats", queryOf(query), signal),
  get: (chatId, { signal } = {}) => http.json({ path: chatPath(chatId), signal }),
  rename: (chatId, title, { signal } = {}) =>
    http.json({ method: "PATCH", path: chatPath(chatId), body: { title }, signal }),
  remove: (chatId, { signal } = {}) => http.done({ method: "DELETE", path: chatPath(chatId), signal }),
  export: <Format extends keyof Exports>(chatId: string, format: Format, { signal }: CallOptions = {}) =>
    http.read(
      { path: `${chatPath(chatId)}/export`, query: { format }, signal },
      async (answer) => (format === "json" ? await answer.json() : await answer.text()) as Exports[Format],
    ),
});

const createReactions = (http: Http): Reactions => {
  const path = (chatId: string, messageId: string): string =>
    `${chatPath(chatId)}/messages/${encodeURIComponent(messageId)}/reaction`;
  return {
    set: (chatId, messageId, reaction, { signal } = {}) =>
      http.json({ method: "PUT", path: path(chatId, messageId), body: { reaction }, signal }),
    remove: (chatId, messageId, { signal } = {}) =>
      http.done({ method: "DELETE", path: path(chatId, messageId), signal }),
  };
};

/** A client of one mini-chat server, for browsers and Node. Nothing is asked before the first call. */
export const createClient = (options: ClientOptions): Client => {
  const http = createHttp(options);
  return {
    chats: createChats(http),
    turns: createTurns(http),
    attachments: createAttachments(http),
    reactions: createReactions(http),
    models: {
      list: async ({ signal } = {}) =>
        (await http.json<{ items: readonly Model[] }>({ path: "/models", signal })).items,
      get: (modelId, { signal } = {}) =>
        http.json({ path: `/models/${encodeURIComponent(modelId)}`, signal }),
    },
    messages: (chatId, query = {}, { signal } = {}) =>
      createListing(http, `${chatPath(chatId)}/messages`, queryOf(query), signal),
    send: (chatId, message, more) => send(http, chatId, message, more),
    quota: ({ signal } = {}) => http.json({ path: "/quota/status", signal }),
    search: (words, query = {}, { signal } = {}) =>
      createListing(http, "/search", { q: words, ...query }, signal),
  };
};
