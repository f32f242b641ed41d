import { useSyncExternalStore } from "react";

/** Where the page is; kept behind `#`, so that the server needs to know one address only. */
export type Route = { readonly at: "new" } | { readonly at: "chat"; readonly chatId: string };

const read = (hash: string): Route => {
  const chatId = /^#\/chats\/([0-9a-fA-F-]{36})$/.exec(hash)?.[1];
  return chatId === undefined ? { at: "new" } : { at: "chat", chatId };
};

let known = { hash: "", route: read("") };

export const currentRoute = (): Route => {
  const { hash } = location;
  if (hash !== known.hash) known = { hash, route: read(hash) };
  return known.route;
};

export const chatHref = (chatId: string): string => `#/chats/${chatId}`;

export const goTo = (route: Route, { replace = false } = {}): void => {
  const hash = route.at === "chat" ? chatHref(route.chatId) : "#/new";
  if (replace) location.replace(hash);
  else location.hash = hash;
};

export const useRoute = (): Route =>
  useSyncExternalStore((listener) => {
    window.addEventListener("hashchange", listener);
    return () => window.removeEventListener("hashchange", listener);
  }, currentRoute);
