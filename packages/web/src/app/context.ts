import type { Client } from "@mini-chat/client";
import { createContext, useContext } from "react";
import type { ChatList } from "../chats/chat-list.ts";
import type { Conversations } from "../conversation/conversations.ts";
import type { NewChats } from "../conversation/new-chat.ts";
import type { Store } from "../lib/store.ts";
import type { Models } from "../models/models.ts";
import type { Quota } from "../quota/quota.ts";
import type { Session } from "../session/session.ts";
import type { Settings } from "../settings.ts";

/** What the page's parts share. */
export interface App {
  readonly settings: Settings;
  readonly session: Session;
  readonly client: Client;
  readonly chats: ChatList;
  readonly conversations: Conversations;
  readonly newChats: NewChats;
  readonly models: Models;
  readonly quota: Quota;
  /** What was last said to screen readers. */
  readonly spoken: Store<string>;
}

const context = createContext<App | null>(null);

export const AppProvider = context.Provider;

export const useApp = (): App => {
  const app = useContext(context);
  if (app === null) throw new Error("outside of the page");
  return app;
};
