import type { Config } from "../config/schema.ts";

/** What the page is told about the server it came from. */
export interface PageSettings {
  readonly title: string;
  readonly auth: "static" | "jwt" | "none";
  /** Origins that may hand it a token by message; `self` is its own. */
  readonly hosts: readonly string[];
}

export const pageSettings = ({ auth, page }: Pick<Config, "auth" | "page">): PageSettings => ({
  title: page.title,
  auth: auth.disabled ? "none" : auth.mode,
  hosts: page.frame_ancestors,
});

const escaped = (text: string): string =>
  text.replace(/[&<>"']/g, (character) => `&#${character.codePointAt(0)};`);

/**
 * The document for one answer. Settings travel in a meta element, so that no inline script is needed; the nonce
 * allows the one style element that the dialogs add to keep what is behind them from scrolling.
 */
export const renderPage = (index: string, settings: PageSettings, nonce: string): string => {
  const { title } = settings;
  const metas =
    `<meta name="mini-chat-settings" content="${escaped(JSON.stringify(settings))}">` +
    `<meta name="mini-chat-nonce" content="${nonce}">`;
  return index
    .replace(/<title>[^<]*<\/title>/, () => `<title>${escaped(title)}</title>`)
    .replace("</head>", () => `${metas}</head>`);
};

/** Nothing but this server's own files runs, is shown or is asked; frames only where configured. */
export const contentSecurityPolicy = (frameAncestors: readonly string[], nonce: string): string => {
  const ancestors = frameAncestors.map((one) => (one === "self" ? "'self'" : one)).join(" ");
  return [
    "default-src 'none'",
    "script-src 'self'",
    `style-src 'self' 'nonce-${nonce}'`,
    "img-src 'self' data: blob:",
    "font-src 'self'",
    "connect-src 'self'",
    "base-uri 'none'",
    "form-action 'none'",
    `frame-ancestors ${ancestors === "" ? "'none'" : ancestors}`,
  ].join("; ");
};
