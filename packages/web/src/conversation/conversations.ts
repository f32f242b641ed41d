import { type Conversation, type ConversationDeps, createConversation } from "./conversation.ts";

export interface Conversations {
  /** The conversation of a chat; it goes on while another one is looked at. */
  of(chatId: string): Conversation;
  /** Only if it was opened before. */
  known(chatId: string): Conversation | undefined;
  forget(chatId: string): void;
}

const kept = 20;

export const createConversations = (deps: ConversationDeps): Conversations => {
  const open = new Map<string, Conversation>();
  return {
    of: (chatId) => {
      const found = open.get(chatId) ?? createConversation(chatId, deps);
      open.delete(chatId);
      open.set(chatId, found);
      const oldest = open.values().next().value;
      if (open.size > kept && oldest !== undefined) {
        open.delete(oldest.chatId);
        oldest.writing.files.discard();
      }
      return found;
    },
    known: (chatId) => open.get(chatId),
    forget: (chatId) => void open.delete(chatId),
  };
};
