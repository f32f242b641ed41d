import type { Chat, Client } from "@mini-chat/client";
import { nameOf } from "./name.ts";

const fileName = (chat: Chat): string =>
  nameOf(chat)
    .replace(/[^\p{L}\p{N} ._-]+/gu, " ")
    .trim()
    .slice(0, 80) || "chat";

const save = (content: string, type: string, name: string): void => {
  const address = URL.createObjectURL(new Blob([content], { type }));
  const link = document.createElement("a");
  link.href = address;
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(address), 10_000);
};

/** Downloads the whole chat. */
export const saveExport = async (client: Client, chat: Chat, format: "markdown" | "json"): Promise<void> => {
  if (format === "markdown") {
    save(await client.chats.export(chat.id, "markdown"), "text/markdown", `${fileName(chat)}.md`);
  } else {
    const content = JSON.stringify(await client.chats.export(chat.id, "json"), null, 2);
    save(content, "application/json", `${fileName(chat)}.json`);
  }
};
