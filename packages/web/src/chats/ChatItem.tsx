import type { Chat } from "@mini-chat/client";
import { memo } from "react";
import { shortTime } from "../lib/format.ts";
import { chatHref } from "../lib/route.ts";
import { Icon } from "../ui/Icon.tsx";
import { ChatMenu } from "./ChatMenu.tsx";
import { nameOf } from "./name.ts";

interface ChatItemProps {
  readonly chat: Chat;
  readonly current: boolean;
  readonly onLeave: () => void;
}

export const ChatItem = memo(({ chat, current, onLeave }: ChatItemProps) => (
  <li className={current ? "chat-item current" : "chat-item"}>
    <a href={chatHref(chat.id)} aria-current={current ? "page" : undefined} onClick={onLeave}>
      <span className="chat-name" dir="auto">
        {nameOf(chat)}
      </span>
      <span className="chat-when">
        {chat.is_temporary && <Icon name="temporary" />}
        {shortTime(chat.updated_at)}
      </span>
    </a>
    <ChatMenu chat={chat} />
  </li>
));
