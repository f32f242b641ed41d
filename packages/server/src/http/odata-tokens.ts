import { isUuid } from "../lib/id.ts";
import { unparsable } from "./odata.ts";

/** A literal of `$filter`; `value` is the text without quotes, or an instant in canonical form. */
export interface Literal {
  readonly kind: "text" | "number" | "boolean" | "null" | "uuid" | "datetime" | "date" | "time";
  readonly value: string;
}

export type Token =
  | { readonly type: "symbol"; readonly text: "(" | ")" | "," }
  | { readonly type: "word"; readonly text: string }
  | { readonly type: "literal"; readonly literal: Literal };

const datetime = /^(\d{4}-\d\d-\d\d)[Tt](\d\d):(\d\d):(\d\d)(?:\.(\d+))?(?:[Zz]|([+-])(\d\d):(\d\d))$/;
const date = /^\d{4}-\d\d-\d\d$/;
const time = /^([01]\d|2[0-3]):[0-5]\d(:[0-5]\d(\.\d+)?)?$/;
const number = /^-?\d+(\.\d+)?([eE][+-]?\d+)?$/;
const word = /^[A-Za-z_]\w*$/;

/** Milliseconds since the epoch of midnight UTC; null for a day that does not exist. */
const midnightOf = (text: string): number | null => {
  const [year = 0, month = 0, day = 0] = text.split("-").map(Number);
  const instant = new Date(0);
  instant.setUTCFullYear(year, month - 1, day);
  return instant.getUTCMonth() === month - 1 && instant.getUTCDate() === day ? instant.getTime() : null;
};

// The years an instant of the database can have in RFC 3339; beyond them comparisons do not change.
const earliest = "0001-01-01T00:00:00.000000Z";
const latest = "9999-12-31T23:59:59.999999Z";

/** An instant in UTC with six fractional digits, as PostgreSQL reads it. */
const canonical = (ms: number, microsOfMs: string): string => {
  const text = new Date(ms).toISOString();
  if (text.startsWith("-") || text.startsWith("0000")) return earliest;
  return text.startsWith("+") ? latest : `${text.slice(0, -1)}${microsOfMs}Z`;
};

/** The canonical form of an RFC 3339 date-time; null when it is none. Digits past the sixth are cut. */
export const canonicalInstant = (text: string): string | null => {
  const match = datetime.exec(text);
  if (match === null) return null;
  const [, day = "", hours, minutes, seconds, fraction = "", sign, offsetHours = "0", offsetMinutes = "0"] =
    match;
  const midnight = midnightOf(day);
  // Second 60 is a leap second and means the next one.
  const inRange = Number(hours) < 24 && Number(minutes) < 60 && Number(seconds) <= 60;
  if (midnight === null || !inRange || Number(offsetHours) > 23 || Number(offsetMinutes) > 59) return null;
  const digits = fraction.padEnd(6, "0");
  const offset = (Number(offsetHours) * 60 + Number(offsetMinutes)) * (sign === "-" ? -1 : 1);
  const secondsOfDay = (Number(hours) * 60 + Number(minutes) - offset) * 60 + Number(seconds);
  return canonical(midnight + secondsOfDay * 1000 + Number(digits.slice(0, 3)), digits.slice(3, 6));
};

const bareLiteral = (text: string): Literal | null => {
  if (text === "true" || text === "false") return { kind: "boolean", value: text };
  if (text === "null") return { kind: "null", value: text };
  if (isUuid(text)) return { kind: "uuid", value: text.toLowerCase() };
  if (number.test(text)) return { kind: "number", value: text };
  if (time.test(text)) return { kind: "time", value: text };
  if (date.test(text)) {
    const midnight = midnightOf(text);
    return midnight === null ? null : { kind: "date", value: canonical(midnight, "000") };
  }
  const instant = canonicalInstant(text);
  return instant === null ? null : { kind: "datetime", value: instant };
};

const piece = /\s*(?:([(),])|'((?:[^']|'')*)'|([^\s(),']+))/y;

/** Cuts `$filter` into tokens. Throws 422 `invalid_filter` at the first text that is none. */
export const tokenize = (filter: string): readonly Token[] => {
  const tokens: Token[] = [];
  const end = filter.trimEnd().length;
  piece.lastIndex = 0;
  while (piece.lastIndex < end) {
    const at = piece.lastIndex;
    const match = piece.exec(filter);
    if (match === null) throw unparsable("invalid_filter", `$filter cannot be read at character ${at}.`);
    const [, symbol, text, bare = ""] = match;
    if (symbol === "(" || symbol === ")" || symbol === ",") tokens.push({ type: "symbol", text: symbol });
    else if (text !== undefined) {
      tokens.push({ type: "literal", literal: { kind: "text", value: text.replaceAll("''", "'") } });
    } else tokens.push(bareToken(bare, at));
  }
  return tokens;
};

const bareToken = (text: string, at: number): Token => {
  const literal = bareLiteral(text);
  if (literal !== null) return { type: "literal", literal };
  if (word.test(text)) return { type: "word", text };
  throw unparsable("invalid_filter", `$filter cannot be read at character ${at}.`);
};
