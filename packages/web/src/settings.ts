export interface Settings {
  readonly title: string;
  readonly auth: "static" | "jwt" | "none";
  /** Origins that may hand over a token by message; `self` is the page's own. */
  readonly hosts: readonly string[];
  /** Where the API is, with its prefix and without `/v1`. */
  readonly baseUrl: string;
}

const metaContent = (name: string): string | undefined =>
  document.querySelector<HTMLMetaElement>(`meta[name="${name}"]`)?.content;

/** What the server wrote into the document. */
export const readSettings = (): Settings => {
  const given = JSON.parse(metaContent("mini-chat-settings") ?? "{}") as Partial<Settings>;
  return {
    title: given.title ?? "mini-chat",
    auth: given.auth ?? "static",
    hosts: given.hosts ?? [],
    baseUrl: new URL(".", document.baseURI).href.replace(/\/$/, ""),
  };
};

/** The dialogs' one style element is allowed by this nonce, which its library reads from here. */
export const provideNonce = (): void => {
  Object.assign(globalThis, { __webpack_nonce__: metaContent("mini-chat-nonce") });
};
