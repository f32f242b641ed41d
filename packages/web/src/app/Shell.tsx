import { useCallback, useEffect, useRef, useState } from "react";
import { knownChat } from "../chats/chat-list.ts";
import { nameOf } from "../chats/name.ts";
import { Sidebar } from "../chats/Sidebar.tsx";
import { ChatView } from "../conversation/ChatView.tsx";
import { NewChat } from "../conversation/NewChat.tsx";
import { goTo, useRoute } from "../lib/route.ts";
import { useStore } from "../lib/store.ts";
import { IconButton } from "../ui/IconButton.tsx";
import { useApp } from "./context.ts";

const useTitle = (): string | null => {
  const { chats, settings } = useApp();
  const list = useStore(chats.state);
  const route = useRoute();
  const chatId = route.at === "chat" ? route.chatId : undefined;
  const chat = chatId === undefined ? undefined : knownChat(list, chatId);
  const name = chat === undefined ? null : nameOf(chat);
  const isRead = list.status !== "loading";
  useEffect(() => {
    if (isRead && chatId !== undefined) void chats.open(chatId);
  }, [chats, chatId, isRead]);
  useEffect(() => {
    document.title = name === null ? settings.title : `${name} – ${settings.title}`;
  }, [name, settings]);
  return name;
};

/** The list of chats beside, on narrow screens above, the chat that is looked at. */
export const Shell = () => {
  const { models, settings } = useApp();
  const route = useRoute();
  const title = useTitle();
  const [listed, setListed] = useState(false);
  const opener = useRef<HTMLButtonElement>(null);
  useEffect(() => {
    models.load().catch(() => {});
  }, [models]);
  const leave = useCallback((): void => setListed(false), []);
  useEffect(() => {
    if (!listed) return;
    const onKey = ({ key, defaultPrevented }: KeyboardEvent): void => {
      // One that closed a menu or a dialog is used up.
      if (key === "Escape" && !defaultPrevented) leave();
    };
    // On a wide screen the list lies beside the chat, which must not stay out of reach.
    const wide = matchMedia("(min-width: 46rem)");
    window.addEventListener("keydown", onKey);
    wide.addEventListener("change", leave);
    return () => {
      window.removeEventListener("keydown", onKey);
      wide.removeEventListener("change", leave);
      opener.current?.focus();
    };
  }, [listed, leave]);
  return (
    <div className={listed ? "shell listed" : "shell"}>
      <Sidebar above={listed} onLeave={leave} />
      {listed && (
        <button type="button" className="curtain" aria-label="Close the list of chats" onClick={leave} />
      )}
      <main className="main" inert={listed}>
        <header className="top">
          <IconButton
            ref={opener}
            className="only-narrow"
            icon="menu"
            label="Show the list of chats"
            aria-expanded={listed}
            onClick={() => setListed(true)}
          />
          <p className="top-title" dir="auto">
            {route.at === "new" ? "" : (title ?? settings.title)}
          </p>
          <IconButton
            className="only-narrow"
            icon="new"
            label="New chat"
            onClick={() => goTo({ at: "new" })}
          />
        </header>
        {route.at === "chat" ? <ChatView key={route.chatId} chatId={route.chatId} /> : <NewChat />}
      </main>
    </div>
  );
};
