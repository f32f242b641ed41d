import { useEffect, useRef, useState } from "react";
import { useApp } from "../app/context.ts";
import { problemText } from "../lib/problem.ts";
import { useRoute } from "../lib/route.ts";
import { useStore } from "../lib/store.ts";
import { QuotaMeter } from "../quota/QuotaMeter.tsx";
import { Icon } from "../ui/Icon.tsx";
import { IconButton } from "../ui/IconButton.tsx";
import { ChatItem } from "./ChatItem.tsx";
import { SearchResults } from "./SearchResults.tsx";

interface SidebarProps {
  /** It lies above the chat, on a narrow screen. */
  readonly above: boolean;
  readonly onLeave: () => void;
}

/** One's chats, a way to find in them, and the quota. */
export const Sidebar = ({ above, onLeave }: SidebarProps) => {
  const { session, settings } = useApp();
  const [words, setWords] = useState("");
  const closer = useRef<HTMLButtonElement>(null);
  useEffect(() => {
    if (above) closer.current?.focus();
  }, [above]);
  return (
    <nav className="sidebar" aria-label="Chats">
      <header className="sidebar-head">
        <span className="brand">{settings.title}</span>
        <IconButton
          ref={closer}
          className="only-narrow"
          icon="close"
          label="Close the list of chats"
          onClick={onLeave}
        />
      </header>
      {/* biome-ignore lint/a11y/useValidAnchor: it leads somewhere, and the list closes on narrow screens */}
      <a className="button new-chat" href="#/new" onClick={onLeave}>
        <Icon name="new" />
        New chat
      </a>
      <label className="search">
        <span className="hidden">Search your chats</span>
        <Icon name="search" />
        <input
          type="search"
          dir="auto"
          placeholder="Search"
          value={words}
          onChange={(event) => setWords(event.target.value)}
        />
      </label>
      {words.trim() === "" ? (
        <Chats onLeave={onLeave} />
      ) : (
        <SearchResults words={words.trim()} onLeave={onLeave} />
      )}
      <footer className="sidebar-foot">
        <QuotaMeter />
        {session.byHand && settings.auth !== "none" && (
          <button type="button" className="link-button" onClick={session.signOut}>
            Sign out
          </button>
        )}
      </footer>
    </nav>
  );
};

const Chats = ({ onLeave }: { readonly onLeave: () => void }) => {
  const { chats } = useApp();
  const { status, chats: latest, next, opened, problem } = useStore(chats.state);
  const route = useRoute();
  useEffect(() => {
    void chats.load();
  }, [chats]);
  if (status === "loading") {
    return (
      <div className="chat-list skeleton lines" role="status" aria-label="Loading your chats">
        <span />
        <span />
        <span />
      </div>
    );
  }
  if (status === "failed") {
    return (
      <div className="chat-list sidebar-note" role="alert">
        <p>{problemText(problem)}</p>
        <button type="button" className="button small" onClick={() => void chats.load()}>
          Try again
        </button>
      </div>
    );
  }
  const shown = route.at === "chat" && route.chatId === opened?.id ? opened : null;
  // Older than those that are listed, as long as these are not all.
  const list = shown === null || latest.some(({ id }) => id === shown.id) ? latest : [...latest, shown];
  if (list.length === 0) return <p className="chat-list sidebar-note">Your chats will be listed here.</p>;
  return (
    <div className="chat-list">
      <ul>
        {list.map((chat) => (
          <ChatItem
            key={chat.id}
            chat={chat}
            current={route.at === "chat" && route.chatId === chat.id}
            onLeave={onLeave}
          />
        ))}
      </ul>
      {next !== null && (
        <button type="button" className="link-button more" onClick={() => void chats.more()}>
          Show older chats
        </button>
      )}
    </div>
  );
};
