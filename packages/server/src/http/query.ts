import { AppError } from "../errors.ts";
import { isCleanText } from "./body.ts";

/** The decoded query of a request: values by key, in the order given; null when it cannot be decoded. */
export type ParsedQuery = ReadonlyMap<string, readonly string[]> | null;

// `+` is a space as in HTML forms; a broken escape makes decodeURIComponent throw.
const decode = (text: string): string => decodeURIComponent(text.replaceAll("+", " "));

/** Decodes `a=1&b=2`; null for broken percent-encoding (also of bytes that are no UTF-8). Never throws. */
export const parseQuery = (query: string): ParsedQuery => {
  const values = new Map<string, string[]>();
  for (const pair of query.split("&")) {
    if (pair === "") continue;
    const equals = pair.indexOf("=");
    try {
      const key = decode(equals === -1 ? pair : pair.slice(0, equals));
      const value = equals === -1 ? "" : decode(pair.slice(equals + 1));
      const sofar = values.get(key);
      if (sofar === undefined) values.set(key, [value]);
      else sofar.push(value);
    } catch {
      return null;
    }
  }
  return values;
};

const bad = (field: string, message: string): AppError =>
  new AppError("invalid_request", { detail: `${field} ${message}.`, errors: [{ field, message }] });

/**
 * The values of the offered keys; empty ones count as absent and unknown keys are ignored (api.md §4).
 * Throws 400 `invalid_request` for broken encoding, a key given twice, or invalid text.
 */
export const pickQuery = (query: ParsedQuery, offered: readonly string[]): Record<string, string> => {
  if (query === null) throw new AppError("invalid_request", { detail: "The query is not percent-encoded." });
  const picked: Record<string, string> = {};
  for (const key of offered) {
    const values = query.get(key);
    const value = values?.[0];
    if (values === undefined || value === undefined) continue;
    if (values.length > 1) throw bad(key, "is given more than once");
    if (!isCleanText(value)) throw bad(key, "must be valid Unicode without U+0000");
    if (value !== "") picked[key] = value;
  }
  return picked;
};
