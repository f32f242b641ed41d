import { type Conversation, type ConversationDeps, createConversation } from "./conversation.ts";
import type { Writing } from "./writing.ts";

export interface Conversations {
  /** The conversation of a chat; it goes on while another one is looked at. */
  of(chatId: string): Conversation;
  /** Of a chat that was just created, for what is being written. */
  begin(chatId: string, writing: Writing): void;
  /** Only if it was opened before. */
  known(chatId: string): Conversation | undefined;
  forget(chatId: string): void;
}

const kept = 20;

export const createConversations = (deps: ConversationDeps): Conversations => {
  const open = new Map<string, Conversation>();

  /** As the one that was looked at last. */
  const keep = (conversation: Conversation): void => {
    open.delete(conversation.chatId);
    open.set(conversation.chatId, conversation);
    const oldest = open.values().next().value;
    if (open.size > kept && oldest !== undefined) {
      open.delete(oldest.chatId);
      oldest.writing.files.discard();
    }
  };

  return {
    of: (chatId) => {
      const found = open.get(chatId) ?? createConversation(chatId, deps);
      keep(found);
      return found;
    },
    begin: (chatId, writing) => keep(createConversation(chatId, deps, writing)),
    known: (chatId) => open.get(chatId),
    forget: (chatId) => void open.delete(chatId),
  };
};
