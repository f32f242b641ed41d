import { createClient } from "@mini-chat/client";
import { createChatList } from "../chats/chat-list.ts";
import { createConversations } from "../conversation/conversations.ts";
import { createNewChats } from "../conversation/new-chat.ts";
import { createStore } from "../lib/store.ts";
import { createModels } from "../models/models.ts";
import { createQuota } from "../quota/quota.ts";
import { createSession } from "../session/session.ts";
import { readSettings } from "../settings.ts";
import type { App } from "./context.ts";
import { joinTabs } from "./tabs.ts";

// Longer than a change of networks takes; then the reader should know that the outcome is not known.
const recoverForMs = 12_000;

/** The parts of the page, put together. */
export const createApp = (): App => {
  const settings = readSettings();
  const session = createSession(settings);
  const client = createClient({ baseUrl: settings.baseUrl, token: session.token, recoverForMs });
  const tabs = joinTabs();
  const quota = createQuota(client);
  const spoken = createStore("");
  const chats = createChatList(client, (chatId) => tabs.tell({ chatId, what: "chat" }));
  const conversations = createConversations({
    client,
    quota,
    changed: (chatId) => {
      chats.touch(chatId);
      tabs.tell({ chatId, what: "turn" });
    },
    say: spoken.set,
  });
  tabs.listen(({ chatId, what }) => {
    if (what === "turn") void conversations.known(chatId)?.load();
    void chats.load();
  });
  return {
    settings,
    session,
    client,
    chats,
    conversations,
    newChats: createNewChats({ client, chats, conversations }),
    models: createModels(client),
    quota,
    spoken,
  };
};
