/** What one tab tells the others of this browser. */
export type Notice = { readonly chatId: string; readonly what: "turn" | "chat" };

export interface Tabs {
  tell(notice: Notice): void;
  listen(listener: (notice: Notice) => void): void;
}

export const joinTabs = (): Tabs => {
  const channel = "BroadcastChannel" in globalThis ? new BroadcastChannel("mini-chat") : null;
  return {
    tell: (notice) => channel?.postMessage(notice),
    listen: (listener) => {
      channel?.addEventListener("message", ({ data }: MessageEvent<Notice>) => listener(data));
    },
  };
};
