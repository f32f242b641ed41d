import type { Chat } from "@mini-chat/client";

export const nameOf = ({ title }: Pick<Chat, "title">): string =>
  title === undefined || title.trim() === "" ? "Untitled chat" : title;

const titleLength = 60;

/** A title for a chat that begins with this message. */
export const titleOf = (content: string): string => {
  const line = content.trim().split("\n")[0]?.trim() ?? "";
  const letters = [...line];
  return letters.length > titleLength
    ? `${letters
        .slice(0, titleLength - 1)
        .join("")
        .trimEnd()}…`
    : line;
};
