/**
 * Redaction and truncation of free text before it is enqueued (outbox.md §4.5). Best effort,
 * idempotent, linear in the length of the text.
 */

/** Patterns in the order they are applied; the names are label values of `audit_redaction_hits`. */
export type RedactionPattern =
  | "pem_private_key"
  | "bearer_token"
  | "jwt"
  | "openai_api_key"
  | "aws_access_key_id"
  | "azure_api_key"
  | "api_key_fields"
  | "password_fields"
  | "long_base64_like";

/** Told once per replaced secret. */
export type CountHit = (pattern: RedactionPattern) => void;

// A value ends at white space, a quote, a comma, `&` or `;`. What an earlier pass put there is left as
// it is, so that a second pass changes and counts nothing.
const value = String.raw`(?!\[REDACTED[A-Z_]*\](?:[\s"'\`,&;]|$))[^\s"'\`,&;]+`;
const field = (names: string): RegExp =>
  new RegExp(String.raw`(${names})(["']?\s*[=:]\s*["']?)${value}`, "gi");

const keepName = (name: string, separator: string): string => `${name}${separator}[REDACTED]`;

/** A pattern and what replaces its groups; a function per match is what keeps hostile text cheap. */
type Rule = readonly [RedactionPattern, RegExp, (name: string, separator: string) => string];

const patterns: readonly Rule[] = [
  ["bearer_token", /\bBearer +[A-Za-z0-9._~+/-]+=*/gi, () => "Bearer [REDACTED]"],
  // The look-behind keeps the scan linear: a run is tried once, at its start.
  ["jwt", /(?<![A-Za-z0-9_-])eyJ[A-Za-z0-9_-]*\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+/g, () => "[REDACTED_JWT]"],
  ["openai_api_key", /sk-[A-Za-z0-9_-]{10,}/g, () => "[REDACTED_OPENAI_KEY]"],
  ["aws_access_key_id", /\bAKIA[0-9A-Z]{16}\b/g, () => "[REDACTED_AWS_ACCESS_KEY_ID]"],
  [
    "azure_api_key",
    new RegExp(String.raw`(?<![A-Za-z0-9-])(api-key|Ocp-Apim-Subscription-Key):\s*${value}`, "gi"),
    (name) => `${name}: [REDACTED_AZURE_KEY]`,
  ],
  ["api_key_fields", field("x-api-key|api_key|client_secret"), keepName],
  ["password_fields", field("password"), keepName],
  ["long_base64_like", /[A-Za-z0-9+/_=-]{201,}/g, () => "…[TRUNCATED_LONG_TOKEN]"],
];

const pemBegin = /-----BEGIN [A-Z0-9 ]{0,64}PRIVATE KEY-----/g;
const pemEnd = /-----END [A-Z0-9 ]{0,64}PRIVATE KEY-----/g;

/** The key from its BEGIN line to its END line, or to the end of the text; two scans, no backtracking. */
const redactKeys = (text: string, count: CountHit): string => {
  let clean = "";
  let from = 0;
  pemBegin.lastIndex = 0;
  for (let begin = pemBegin.exec(text); begin !== null; begin = pemBegin.exec(text)) {
    clean += `${text.slice(from, begin.index)}[REDACTED_PRIVATE_KEY]`;
    count("pem_private_key");
    pemEnd.lastIndex = pemBegin.lastIndex;
    from = pemEnd.exec(text) === null ? text.length : pemEnd.lastIndex;
    pemBegin.lastIndex = from;
    if (from >= text.length) break;
  }
  return clean + text.slice(from);
};

/** Replaces what looks like a credential, in the order of the table. `redact(redact(x)) = redact(x)`. */
export const redact = (text: string, count: CountHit = () => {}): string =>
  patterns.reduce(
    (clean, [name, pattern, replacement]) =>
      clean.replace(pattern, (_, first: string, second: string) => {
        count(name);
        return replacement(first, second);
      }),
    redactKeys(text, count),
  );

/** Bytes of UTF-8 a text field may have, the suffix included. */
export const maxTextBytes = 8_192;
const suffix = "…[TRUNCATED]";
const suffixBytes = Buffer.byteLength(suffix);

/** Cuts to 8192 bytes of UTF-8 including `…[TRUNCATED]`, on a code-point boundary. */
export const truncateText = (text: string): string => {
  // At most three bytes per UTF-16 unit.
  if (text.length * 3 <= maxTextBytes || Buffer.byteLength(text) <= maxTextBytes) return text;
  const bytes = Buffer.from(text.slice(0, maxTextBytes));
  let end = maxTextBytes - suffixBytes;
  // Back over continuation bytes (10xxxxxx) to the first byte of a character.
  while (end > 0 && ((bytes[end] ?? 0) & 0xc0) === 0x80) end -= 1;
  return bytes.toString("utf8", 0, end) + suffix;
};

/** Redacts, then truncates: what every free-text field of an audit event goes through. */
export const cleanText = (text: string, count?: CountHit): string => truncateText(redact(text, count));
