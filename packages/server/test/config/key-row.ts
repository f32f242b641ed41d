/** One key as the specification gives it. `<id>`, `<tenant_id>` and `[]` in it stand for one entry of a map or list. */
export interface KeyRow {
  readonly key: string;
  /** undefined: optional without a default; `REQUIRED`: must be there. */
  readonly fallback: unknown;
  /** Valid values; of a range, both ends. */
  readonly good: readonly unknown[];
  /** Invalid values: of a range, one step outside; and wrong types. */
  readonly bad: readonly unknown[];
  /** Other keys that have to be set for the good values to be allowed. */
  readonly with: Readonly<Record<string, unknown>>;
}

export const REQUIRED = Symbol("required");

export type Companions = KeyRow["with"];

export const ANY_TYPE_BUT_NUMBER = ["7", true, null, [7], {}];
export const ANY_TYPE_BUT_TEXT = [7, true, ["x"], {}];

/** An integer with its range; without `max` it is open above. */
export const int = (
  key: string,
  fallback: unknown,
  min: number,
  max?: number,
  also: Companions = {},
): KeyRow => ({
  key,
  fallback,
  good: [min, max ?? 1_000_000],
  bad: [min - 1, ...(max === undefined ? [] : [max + 1]), min + 0.5, ...ANY_TYPE_BUT_NUMBER],
  with: also,
});

export const bool = (key: string, fallback: boolean, also: Companions = {}): KeyRow => ({
  key,
  fallback,
  good: [true, false],
  bad: ["true", 1, 0, null, []],
  with: also,
});

export const oneOf = (
  key: string,
  fallback: unknown,
  good: readonly string[],
  also: Companions = {},
): KeyRow => ({
  key,
  fallback,
  good,
  bad: ["other", good[0]?.toUpperCase(), "", null, ...ANY_TYPE_BUT_TEXT],
  with: also,
});

export const text = (
  key: string,
  fallback: unknown,
  good: readonly unknown[],
  bad: readonly unknown[] = [],
  also: Companions = {},
): KeyRow => ({
  key,
  fallback,
  good,
  bad: [...bad, ...ANY_TYPE_BUT_TEXT, ...(good.includes(null) ? [] : [null])],
  with: also,
});

export const list = (
  key: string,
  fallback: unknown,
  good: readonly unknown[],
  bad: readonly unknown[],
  also: Companions = {},
): KeyRow => ({ key, fallback, good, bad: [...bad, "x", 7, null, {}], with: also });

export const uuid = "7c9e6679-7425-40de-944b-e07fc1f90ae7";
export const postgres = ["postgres://u:p@db.example:5432/chat", "postgresql://db/chat"];
export const notPostgres = ["", "mysql://db/chat", "db.example"];
export const urls = ["https://x.example/path", "http://127.0.0.1:8080"];
export const notUrls = ["", "x.example", "ftp://x.example", "https://user:password@x.example"];
export const addresses = ["127.0.0.1:8087", "0.0.0.0:0", "[::1]:65535", "localhost:80"];
export const notAddresses = ["", "127.0.0.1", ":8087", "127.0.0.1:65536", "http://127.0.0.1:80", "::1:80"];
export const invisible = [
  "with a space in it",
  "trailing-newline\n",
  "schlüsselwörter-viele",
  "\u007f".repeat(16),
];
export const shortOrInvisible = ["", "0123456789abcde", ...invisible];
export const blank = ["", "  "];
export const queueNames = ["q", "0.a_b-C", `a${"-".repeat(1_022)}z`];
export const notQueueNames = ["", "-q", "q.", "a b", "a/b", "ä", "q".repeat(1_025)];
