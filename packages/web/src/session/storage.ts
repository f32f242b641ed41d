const key = "mini-chat.token";

// A browser may forbid storage, in a frame for example: the token then lives as long as the page.
const attempt = <T>(run: () => T): T | null => {
  try {
    return run();
  } catch {
    return null;
  }
};

export const storedToken = (): string | null =>
  attempt(() => sessionStorage.getItem(key) ?? localStorage.getItem(key));

/** Keeps the token until the tab is closed, or until signing out. */
export const storeToken = (token: string, remember: boolean): void => {
  forgetToken();
  attempt(() => (remember ? localStorage : sessionStorage).setItem(key, token));
};

export const forgetToken = (): void => {
  attempt(() => sessionStorage.removeItem(key));
  attempt(() => localStorage.removeItem(key));
};
