declare global {
  interface JSON {
    /** ES2026: a literal piece of JSON text, written as it is. */
    rawJSON(text: string): unknown;
  }
}

/**
 * `JSON.stringify` that writes `bigint` as a bare integer (quota.md §1.1: int64 amounts are JSON
 * numbers, never strings, never floats).
 */
export const stringifyJson = (value: unknown): string =>
  JSON.stringify(value, (_key, item: unknown) =>
    typeof item === "bigint" ? JSON.rawJSON(item.toString()) : item,
  );
