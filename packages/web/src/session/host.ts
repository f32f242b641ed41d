import type { Settings } from "../settings.ts";

/** Where tokens come from when the page is part of another one (docs/embedding.md). */
export interface Host {
  /** A token other than the refused one; rejects when the host gives none in time. */
  token(refused: string | undefined): Promise<string>;
}

type TokenFunction = (refused?: string) => string | Promise<string>;

const waitMs = 10_000;

const isText = (value: unknown): value is string => typeof value === "string" && value !== "";

/** A function the embedding page of the same origin offers; other origins cannot be looked into. */
const functionOf = (parent: Window): TokenFunction | null => {
  try {
    const offered: unknown = Reflect.get(parent, "miniChatToken");
    return typeof offered === "function" ? (offered as TokenFunction) : null;
  } catch {
    return null;
  }
};

const originsOf = ({ hosts }: Settings): readonly string[] =>
  hosts.map((host) => (host === "self" ? location.origin : host));

const askByMessage = (
  parent: Window,
  origins: readonly string[],
  refused: string | undefined,
): Promise<string> =>
  new Promise((resolve, reject) => {
    const end = (settle: () => void): void => {
      clearTimeout(timer);
      window.removeEventListener("message", listen);
      settle();
    };
    const listen = ({ data, origin, source }: MessageEvent<unknown>): void => {
      if (source !== parent || !origins.includes(origin)) return;
      if (typeof data !== "object" || data === null || Reflect.get(data, "type") !== "mini-chat:token")
        return;
      const token: unknown = Reflect.get(data, "token");
      if (isText(token) && token !== refused) end(() => resolve(token));
    };
    const timer = setTimeout(() => end(() => reject(new Error("the host gave no token"))), waitMs);
    window.addEventListener("message", listen);
    const request = { type: "mini-chat:token-request", refused: refused !== undefined };
    // Only the site that is meant gets the message; it holds no secret all the same.
    for (const origin of origins) parent.postMessage(request, origin);
  });

/** The page around this one, when it may hand over tokens; null otherwise. */
export const findHost = (settings: Settings): Host | null => {
  const { parent } = window;
  if (parent === window) return null;
  const origins = originsOf(settings);
  if (functionOf(parent) === null && origins.length === 0) return null;
  return {
    token: async (refused) => {
      // Looked up each time: the site may offer another one once somebody has signed in to it.
      const given = functionOf(parent);
      if (given === null) return askByMessage(parent, origins, refused);
      const token = await given(refused);
      if (!isText(token)) throw new Error("the host gave no token");
      return token;
    },
  };
};
