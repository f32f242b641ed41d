import { createStore, type Store } from "../lib/store.ts";
import type { Settings } from "../settings.ts";
import { findHost } from "./host.ts";
import { forgetToken, storedToken, storeToken } from "./storage.ts";

export interface SessionState {
  readonly status: "signed-in" | "signed-out" | "asking-host";
  /** A token was there and is not accepted any more. */
  readonly expired: boolean;
}

export interface Session {
  readonly state: Store<SessionState>;
  /** Whether the user enters the token; otherwise the host gives it, or none is needed. */
  readonly byHand: boolean;
  /** As the client asks for it: waits until there is one the server did not refuse. */
  token(refused?: string): Promise<string>;
  signIn(token: string, remember: boolean): void;
  /** Asks the host again after it gave nothing. */
  askAgain(): void;
  signOut(): void;
}

/**
 * The token in the link that `npm start` prints. Only on this very machine: elsewhere a foreign link could sign
 * somebody in as another, who then reads what they write.
 */
const tokenOfLink = (): string | null => {
  const token = /^#token=([^&]+)$/.exec(location.hash)?.[1];
  if (token === undefined) return null;
  history.replaceState(null, "", location.pathname + location.search);
  return /^(localhost|127\.0\.0\.1|\[::1\])$/.test(location.hostname) ? decodeURIComponent(token) : null;
};

export const createSession = (settings: Settings): Session => {
  const host = findHost(settings);
  const linked = tokenOfLink();
  if (linked !== null) storeToken(linked, false);
  let token = settings.auth === "none" ? "none" : host === null ? storedToken() : null;
  let waiting: ((token: string) => void)[] = [];
  let asking: Promise<void> | null = null;
  const state = createStore<SessionState>({
    status: token !== null ? "signed-in" : host === null ? "signed-out" : "asking-host",
    expired: false,
  });

  const use = (given: string): void => {
    token = given;
    const woken = waiting;
    waiting = [];
    state.set({ status: "signed-in", expired: false });
    for (const resume of woken) resume(given);
  };

  const ask = (refused: string | undefined): void => {
    if (host === null || asking !== null) return;
    asking = host
      .token(refused)
      .then(use, () => state.set({ status: "signed-out", expired: refused !== undefined }))
      .finally(() => {
        asking = null;
      });
  };

  if (host !== null && token === null) ask(undefined);

  return {
    state,
    byHand: host === null,
    token: async (refused) => {
      if (token !== null && (token !== refused || settings.auth === "none")) return token;
      if (refused !== undefined && token === refused) {
        token = null;
        forgetToken();
        if (host === null) state.set({ status: "signed-out", expired: true });
        else ask(refused);
      }
      return new Promise((resolve) => waiting.push(resolve));
    },
    signIn: (given, remember) => {
      storeToken(given, remember);
      use(given);
    },
    askAgain: () => {
      state.set({ ...state.get(), status: "asking-host" });
      ask(undefined);
    },
    signOut: () => {
      forgetToken();
      location.hash = "";
      location.reload();
    },
  };
};
