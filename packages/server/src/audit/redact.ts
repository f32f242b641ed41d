import {
  afterBlanks,
  afterSpaces,
  endOfAwsKeyId,
  endOfBearerToken,
  endOfJwt,
  endOfKeyLine,
  endOfOpenaiKey,
  endOfValue,
  nextLongRun,
  startOfFieldValue,
} from "./scan.ts";

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

/**
 * A secret is told by what it begins with. Scanning by hand behind that takes a third of the time of
 * regular expressions with a function per match (`bench/redact.ts`).
 */
interface Rule {
  readonly name: RedactionPattern;
  /** `lastIndex` is right behind it. */
  readonly opening: RegExp;
  /** Where the value begins, -1 when there is none; given the position behind the opening. */
  readonly start: (text: string, at: number) => number;
  /** Where the value ends, -1 when it is none. */
  readonly end: (text: string, start: number) => number;
  /** What is replaced: the value alone, or what lies before it as well with so much of the opening. */
  readonly replaces: "value" | { readonly opening: number };
  readonly replacement: string;
}

const here = (_text: string, at: number): number => at;

const token = (
  name: RedactionPattern,
  opening: RegExp,
  length: number,
  end: Rule["end"],
  put: string,
): Rule => ({
  name,
  opening,
  start: here,
  end,
  replaces: { opening: length },
  replacement: put,
});

const field = (name: RedactionPattern, opening: RegExp): Rule => ({
  name,
  opening,
  start: startOfFieldValue,
  end: endOfValue,
  replaces: "value",
  replacement: "[REDACTED]",
});

const rules: readonly Rule[] = [
  {
    name: "bearer_token",
    opening: /bearer(?= )/gi,
    start: afterBlanks,
    end: endOfBearerToken,
    replaces: { opening: "bearer".length },
    replacement: "Bearer [REDACTED]",
  },
  // At the start of a run only, or every `eyJ` of a long run would be looked at to its end.
  token("jwt", /(?<![A-Za-z0-9_-])eyJ/g, 3, endOfJwt, "[REDACTED_JWT]"),
  token("openai_api_key", /sk-/g, 3, endOfOpenaiKey, "[REDACTED_OPENAI_KEY]"),
  token("aws_access_key_id", /\bAKIA/g, 4, endOfAwsKeyId, "[REDACTED_AWS_ACCESS_KEY_ID]"),
  {
    name: "azure_api_key",
    opening: /(?<![A-Za-z0-9-])(?:api-key|Ocp-Apim-Subscription-Key):/gi,
    start: afterSpaces,
    end: endOfValue,
    replaces: { opening: 0 },
    replacement: " [REDACTED_AZURE_KEY]",
  },
  field("api_key_fields", /x-api-key|api_key|client_secret/gi),
  field("password_fields", /password/gi),
];

const apply = (text: string, rule: Rule, count: CountHit): string => {
  const { opening, replaces } = rule;
  let clean = "";
  let from = 0;
  opening.lastIndex = 0;
  while (opening.test(text)) {
    const at = opening.lastIndex;
    const start = rule.start(text, at);
    const end = start < 0 ? -1 : rule.end(text, start);
    if (end < 0) continue;
    clean += text.slice(from, replaces === "value" ? start : at - replaces.opening);
    clean += rule.replacement;
    count(rule.name);
    from = end;
    opening.lastIndex = end;
  }
  return from === 0 ? text : clean + text.slice(from);
};

const begin = "-----BEGIN ";
const finish = "-----END ";

/** The start of the next line that opens or closes a private key and its end; -1 where there is none. */
const nextKeyLine = (text: string, opening: string, from: number): readonly [number, number] => {
  for (let at = text.indexOf(opening, from); at >= 0; at = text.indexOf(opening, at + opening.length)) {
    const end = endOfKeyLine(text, at + opening.length);
    if (end >= 0) return [at, end];
  }
  return [-1, -1];
};

/** A key from its BEGIN line to its END line, or to the end of the text. */
const redactKeys = (text: string, count: CountHit): string => {
  let clean = "";
  let from = 0;
  while (from < text.length) {
    const [at, behind] = nextKeyLine(text, begin, from);
    if (at < 0) break;
    clean += `${text.slice(from, at)}[REDACTED_PRIVATE_KEY]`;
    count("pem_private_key");
    const [, end] = nextKeyLine(text, finish, behind);
    from = end < 0 ? text.length : end;
  }
  return from === 0 ? text : clean + text.slice(from);
};

const redactLongRuns = (text: string, count: CountHit): string => {
  let clean = "";
  let from = 0;
  for (let run = nextLongRun(text, 0); run !== null; run = nextLongRun(text, from)) {
    const [start, end] = run;
    clean += `${text.slice(from, start)}…[TRUNCATED_LONG_TOKEN]`;
    count("long_base64_like");
    from = end;
  }
  return from === 0 ? text : clean + text.slice(from);
};

/** Replaces what looks like a credential, in the order of the table. `redact(redact(x)) = redact(x)`. */
export const redact = (text: string, count: CountHit = () => {}): string => {
  const withoutKeys = redactKeys(text, count);
  const clean = rules.reduce((rest, rule) => apply(rest, rule, count), withoutKeys);
  return redactLongRuns(clean, count);
};

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
