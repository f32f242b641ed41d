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
  /** What was being written in those that are not open any more. */
  const drafts = new Map<string, string>();

  /** As the one that was looked at last. */
  const keep = (conversation: Conversation): void => {
    open.delete(conversation.chatId);
    open.set(conversation.chatId, conversation);
    const oldest = open.values().next().value;
    if (open.size > kept && oldest !== undefined) {
      const { chatId, writing } = oldest;
      open.delete(chatId);
      const text = writing.text.get();
      if (text !== "") drafts.set(chatId, text);
      writing.files.discard();
    }
  };

  const reopen = (chatId: string): Conversation => {
    const conversation = createConversation(chatId, deps);
    conversation.writing.text.set(drafts.get(chatId) ?? "");
    drafts.delete(chatId);
    return conversation;
  };

  return {
    of: (chatId) => {
      const found = open.get(chatId) ?? reopen(chatId);
      keep(found);
      return found;
    },
    begin: (chatId, writing) => keep(createConversation(chatId, deps, writing)),
    known: (chatId) => open.get(chatId),
    forget: (chatId) => {
      open.delete(chatId);
      drafts.delete(chatId);
    },
  };
};
