import { AppError, type ErrorCode } from "../errors.ts";

/** Types of the fields a list can be filtered and ordered by (api.md §4). */
export type FieldType = "datetime" | "uuid" | "string";

/** One field of a list. Expressions are SQL of the store that owns the table, never client input. */
export interface ListField {
  readonly type: FieldType;
  /** Null where the value is missing. */
  readonly sql: string;
  /** For ordering, never null; default: `sql`. Strings are compared by code point either way. */
  readonly orderSql?: string;
}

export interface OrderKey {
  /** Name of a field of the table, as written there. */
  readonly field: string;
  readonly direction: "asc" | "desc";
}

/** What a list offers: `id` must be among its fields, it makes every order total. */
export interface ListTable {
  /** Tells lists apart: a cursor of one is refused by another. */
  readonly name: string;
  readonly fields: Readonly<Record<string, ListField>>;
  readonly defaultOrder: readonly OrderKey[];
  /** Names `$select` may ask for: all fields of the object. */
  readonly selectable: readonly string[];
}

type QueryCode = Extract<
  ErrorCode,
  "invalid_filter" | "invalid_orderby" | "invalid_select" | "invalid_cursor"
>;

/** 422: the text cannot be parsed. */
export const unparsable = (code: QueryCode, detail: string): AppError =>
  new AppError(code, { status: 422, detail });

/** 400: it parses, but asks for what is not offered. */
export const notOffered = (code: QueryCode, detail: string): AppError =>
  new AppError(code, { status: 400, detail });

/** The name as the table writes it, for a name in any case; undefined when there is no such field. */
export const findField = (table: ListTable, name: string): string | undefined =>
  Object.keys(table.fields).find((field) => field.toLowerCase() === name.toLowerCase());

const maxOrderLength = 1_024;
const maxOrderKeys = 10;

/**
 * Parses `$orderby` and completes it with `id` in the direction of the key before it, so that every
 * order is total. Throws `invalid_orderby`: 422 for syntax, 400 for unknown or repeated fields and size.
 */
export const parseOrderBy = (table: ListTable, text: string): readonly OrderKey[] => {
  if ([...text].length > maxOrderLength) throw notOffered("invalid_orderby", "$orderby is too long.");
  const parsed = text.split(",").map((part) => {
    const match = /^\s*([A-Za-z_]\w*)(?:\s+(asc|desc))?\s*$/.exec(part);
    if (match === null) throw unparsable("invalid_orderby", "$orderby is not `field [asc|desc], …`.");
    return { name: match[1] ?? "", direction: match[2] === "desc" ? "desc" : "asc" } as const;
  });
  if (parsed.length > maxOrderKeys) throw notOffered("invalid_orderby", "$orderby names too many fields.");
  const keys: OrderKey[] = [];
  for (const { name, direction } of parsed) {
    const field = findField(table, name);
    if (field === undefined) throw notOffered("invalid_orderby", `There is no ordering by ${name}.`);
    if (keys.some((key) => key.field === field)) {
      throw notOffered("invalid_orderby", `${field} is named more than once.`);
    }
    keys.push({ field, direction });
  }
  return completeOrder(keys);
};

/** The order with `id` last, unless it names it already. */
export const completeOrder = (keys: readonly OrderKey[]): readonly OrderKey[] =>
  keys.some(({ field }) => field === "id")
    ? keys
    : [...keys, { field: "id", direction: keys.at(-1)?.direction ?? "asc" }];

const maxSelectLength = 2_048;
const maxSelectNames = 100;

/** Parses `$select` into the names as the table writes them. Throws 400 `invalid_select`, whatever is wrong. */
export const parseSelect = (table: ListTable, text: string): readonly string[] => {
  if ([...text].length > maxSelectLength) throw notOffered("invalid_select", "$select is too long.");
  const names = text.split(",").map((name) => name.trim());
  if (names.length > maxSelectNames) throw notOffered("invalid_select", "$select names too many fields.");
  const selected = names.map((name) => {
    const known = table.selectable.find((field) => field.toLowerCase() === name.toLowerCase());
    if (known === undefined) throw notOffered("invalid_select", "$select names an unknown field.");
    return known;
  });
  if (new Set(selected).size < selected.length) {
    throw notOffered("invalid_select", "$select names a field more than once.");
  }
  return selected;
};

/** The item with exactly the selected fields that have a value; null selects all. */
export const selectFields = <Item extends object>(
  item: Item,
  selected: readonly string[] | null,
): Partial<Item> => {
  if (selected === null) return item;
  const entries = Object.entries(item).filter(([name]) => selected.includes(name));
  return Object.fromEntries(entries) as Partial<Item>;
};
