/** What a client-visible message must not show besides the fixed patterns of providers.md §7.2. */
export interface Confidential {
  /** Configured upstream hosts, without port. */
  readonly hosts: readonly string[];
  /** Deployment names: what the provider calls our model. */
  readonly deployments: readonly string[];
  /** Credentials in use. */
  readonly secrets: readonly string[];
}

export const nothingConfidential: Confidential = { hosts: [], deployments: [], secrets: [] };

/** Longest message a client sees, in UTF-16 units (providers.md §7.2). */
export const MAX_MESSAGE_LENGTH = 500;

/** Longest internal detail that is kept, in UTF-16 units. */
export const MAX_DETAIL_LENGTH = 2_000;

// Keys may be glued to other text ("key=sk-…"), so these have no left boundary: rather too much is hidden.
const credentialPatterns = [/(?:bearer\s+)+\S+/gi, /sk-[\w-]{10,}/gi] as const;

const url = /https?:\/\/[^\s"'<>`]*/gi;

const providerIds = [
  /(?:resp_|chatcmpl-|cmpl-|msg_)[a-z0-9][\w-]*/gi,
  // Shorter prefixes are parts of ordinary words ("users_", "calls"), so they need a left boundary.
  /(?<![a-z0-9])(?:file[-_]|org-|(?:vs|batch|req|run|thread|call|toolu|cntr|rs|ws|fs|ci|proj|asst)_)[a-z0-9][\w-]*/gi,
] as const;

// Shorter texts would blank out ordinary words, and are no credentials.
const MIN_SECRET_LENGTH = 6;
const MIN_NAME_LENGTH = 3;

/**
 * The text with everything of providers.md §7.2 replaced by `[provider_id]`, `[url]`, `[credential]`
 * or `[model]`, on one line, cut at 500 characters; `fallback` when nothing is left.
 */
export function sanitizeMessage(text: string, confidential: Confidential, fallback: string): string {
  let clean = removeSecrets(text, confidential.secrets).replace(url, "[url]");
  for (const host of confidential.hosts) {
    clean = clean.replace(new RegExp(`${escapeRegExp(host)}(?::\\d{1,5})?`, "gi"), "[url]");
  }
  for (const pattern of providerIds) clean = clean.replace(pattern, "[provider_id]");
  for (const name of confidential.deployments) {
    if (name.length < MIN_NAME_LENGTH) continue;
    clean = clean.replace(new RegExp(`(?<!\\w)${escapeRegExp(name)}(?!\\w)`, "gi"), "[model]");
  }
  clean = cut(clean.replace(/[\s\p{Cc}]+/gu, " ").trim(), MAX_MESSAGE_LENGTH).trim();
  return clean === "" ? fallback : clean;
}

/** The text with every id of a provider replaced (providers.md §7.2); anything else stays. */
export const withoutProviderIds = (text: string): string =>
  providerIds.reduce((clean, pattern) => clean.replace(pattern, "[provider_id]"), text);

/** The text without credentials, otherwise as the provider wrote it, cut at 2,000 characters: for logs and `error_detail`. */
export const internalDetail = (text: string, confidential: Confidential): string =>
  cut(removeSecrets(text, confidential.secrets), MAX_DETAIL_LENGTH);

const removeSecrets = (text: string, secrets: readonly string[]): string => {
  let clean = text;
  for (const secret of secrets) {
    if (secret.length >= MIN_SECRET_LENGTH) clean = clean.replaceAll(secret, "[credential]");
  }
  for (const pattern of credentialPatterns) clean = clean.replace(pattern, "[credential]");
  return clean;
};

const escapeRegExp = (text: string): string => text.replace(/[\\^$.*+?()[\]{}|/-]/g, "\\$&");

/** At most `max` UTF-16 units, never half a character. */
const cut = (text: string, max: number): string => {
  if (text.length <= max) return text;
  const last = text.charCodeAt(max - 1);
  return text.slice(0, last >= 0xd800 && last <= 0xdbff ? max - 1 : max);
};
