/** What a part of a form says of itself. */
export interface Disposition {
  readonly name: string | null;
  readonly filename: string | null;
}

// A quote that is never closed reaches to the end: looking for its end from every `;` would take quadratic time.
const parameter = /;\s*([\w!#$&+.^`|~*-]+)\s*=\s*(?:"((?:[^"\\]|\\.|\\$)*)(?:"|$)|([^;\s]*))/gs;

/** Bytes of a header, as the parser hands them over, are UTF-8 from every client of today. */
const fromHeader = (latin1: string): string => {
  const bytes = Buffer.from(latin1, "latin1");
  try {
    return new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(bytes);
  } catch {
    return latin1;
  }
};

/** `UTF-8''na%C3%AFve.txt` (RFC 5987); null when it is no such value. */
const extended = (value: string): string | null => {
  const match = /^(utf-8|iso-8859-1)'[^']*'(.*)$/is.exec(value);
  if (match === null) return null;
  const [, charset = "", encoded = ""] = match;
  const bytes = encoded.replace(/%([0-9a-f]{2})/gi, (_, hex: string) =>
    String.fromCharCode(Number.parseInt(hex, 16)),
  );
  return charset.toLowerCase() === "utf-8" ? fromHeader(bytes) : bytes;
};

/**
 * The `Content-Disposition` of a form's part, read as bytes in latin1; null when it is not `form-data`.
 * Browsers send UTF-8 in a plain `filename`, others `filename*`, which wins (api.md §8).
 */
export const parseDisposition = (header: string): Disposition | null => {
  if (!/^\s*form-data\s*(;|$)/i.test(header)) return null;
  const found = new Map<string, string>();
  for (const [, name = "", quoted, plain] of header.matchAll(parameter)) {
    const key = name.toLowerCase();
    // A backslash may be part of a path some clients send: only the quote is unescaped.
    if (!found.has(key)) found.set(key, quoted?.replaceAll('\\"', '"') ?? plain ?? "");
  }
  const text = (key: string): string | null => {
    const value = found.get(key);
    return value === undefined ? null : fromHeader(value);
  };
  return { name: text("name"), filename: extended(found.get("filename*") ?? "") ?? text("filename") };
};
