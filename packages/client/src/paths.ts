export const chatPath = (chatId: string): string => `/chats/${encodeURIComponent(chatId)}`;

export const turnPath = (chatId: string, requestId: string): string =>
  `${chatPath(chatId)}/turns/${encodeURIComponent(requestId)}`;
