import type { Chat } from "@mini-chat/client";

export const nameOf = ({ title }: Pick<Chat, "title">): string =>
  title === undefined || title.trim() === "" ? "Untitled chat" : title;
