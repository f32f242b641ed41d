import type { Citation, Client } from "@mini-chat/client";

// What is parsed at once must not be felt.
const mostMessages = 1_000;

/** The sources of each message of a chat; null for a chat that is too long to look. */
export const sourcesOf = async (
  client: Client,
  chatId: string,
): Promise<ReadonlyMap<string, readonly Citation[]> | null> => {
  const chat = await client.chats.get(chatId);
  if (chat.message_count === 0 || chat.message_count > mostMessages) return null;
  const { messages } = await client.chats.export(chatId, "json");
  return new Map(messages.map(({ id, citations = [] }) => [id, citations]));
};
