import { createHash } from "node:crypto";
import { z } from "zod";
import { AppError } from "../errors.ts";
import { isUuid } from "../lib/id.ts";
import { isCleanText } from "./body.ts";
import {
  completeOrder,
  type FieldType,
  type ListTable,
  notOffered,
  type OrderKey,
  parseOrderBy,
  parseSelect,
  unparsable,
} from "./odata.ts";
import { type Filter, parseFilter } from "./odata-filter.ts";
import { canonicalInstant } from "./odata-tokens.ts";

/** A position in a list: the order keys of an edge row and where to go from it. */
export interface Cursor {
  readonly direction: "next" | "prev";
  /** Whether the page starts with the edge row itself (it was not part of the page before). */
  readonly inclusive: boolean;
  /** One value per order key. */
  readonly keys: readonly string[];
}

/** A valid list query. */
export interface ListRequest {
  readonly limit: number;
  /** Ends with `id`: total. */
  readonly order: readonly OrderKey[];
  readonly filter: Filter | null;
  readonly select: readonly string[] | null;
  readonly cursor: Cursor | null;
}

/** Query keys of a list as the route's schema. */
export const listQuery = () =>
  z.object({
    limit: z.string().optional().meta({ type: "integer", minimum: 1, maximum: 100, default: 20 }),
    cursor: z.string().optional().meta({ description: "From `page_info`; opaque." }),
    $filter: z.string().optional(),
    $orderby: z.string().optional(),
    $select: z.string().optional(),
  });

/** Page of items of this kind; `$select` may leave any field out. */
export const pageOf = <Shape extends z.ZodRawShape>(item: z.ZodObject<Shape>) =>
  z.object({ items: z.array(item.partial()), page_info: pageInfo });

const pageInfo = z.object({
  limit: z.int(),
  next_cursor: z.string().nullable(),
  prev_cursor: z.string().nullable(),
});

export type PageInfo = z.infer<typeof pageInfo>;

const defaultLimit = 20;
const maxLimit = 100;

const parseLimit = (text: string | undefined): number => {
  if (text === undefined) return defaultLimit;
  if (!/^\d+$/.test(text)) {
    const message = "must be an unsigned integer";
    throw new AppError("invalid_request", {
      detail: `limit ${message}.`,
      errors: [{ field: "limit", message }],
    });
  }
  const limit = Math.min(Number(text), maxLimit);
  if (limit === 0) throw unparsable("invalid_filter", "limit must be at least 1.");
  return limit;
};

type ListQuery = { readonly [Key in keyof z.infer<ReturnType<typeof listQuery>>]?: string | undefined };

/**
 * Reads the query of a list before any row is (api.md §4). Throws 422 for a text that cannot be
 * parsed and 400 for what is not offered, each with the code of its key.
 */
export const parseListQuery = (table: ListTable, query: ListQuery): ListRequest => {
  const limit = parseLimit(query.limit);
  const filter = query.$filter === undefined ? null : parseFilter(table, query.$filter);
  const select = query.$select === undefined ? null : parseSelect(table, query.$select);
  if (query.cursor !== undefined) {
    if (query.$orderby !== undefined) {
      throw unparsable("invalid_cursor", "The order comes from the cursor; leave $orderby out.");
    }
    return { limit, filter, select, ...decodeCursor(table, query.cursor, filter) };
  }
  const order =
    query.$orderby === undefined ? completeOrder(table.defaultOrder) : parseOrderBy(table, query.$orderby);
  return { limit, filter, select, order, cursor: null };
};

const maxCursorLength = 4_096;
const cursorVersion = 1;

const cursorShape = z.object({
  v: z.int(),
  o: z.string(),
  d: z.enum(["next", "prev"]),
  i: z.boolean(),
  k: z.array(z.string()),
  f: z.string(),
});

/** Binds a cursor to its list and filter; the parsed filter, so spelling does not matter. */
const hashOf = (table: ListTable, filter: Filter | null): string =>
  createHash("sha256")
    .update(JSON.stringify([table.name, filter]))
    .digest("base64url")
    .slice(0, 16);

const orderText = (order: readonly OrderKey[]): string =>
  order.map(({ field, direction }) => `${field} ${direction}`).join(",");

/** The opaque text of a cursor: holds no identity, so a forged one moves its sender within his own list. */
export const encodeCursor = (
  table: ListTable,
  request: Pick<ListRequest, "order" | "filter">,
  cursor: Cursor,
): string =>
  Buffer.from(
    JSON.stringify({
      v: cursorVersion,
      o: orderText(request.order),
      d: cursor.direction,
      i: cursor.inclusive,
      k: [...cursor.keys],
      f: hashOf(table, request.filter),
    } satisfies z.infer<typeof cursorShape>),
  ).toString("base64url");

const readCursor = (text: string): z.infer<typeof cursorShape> => {
  const broken = unparsable("invalid_cursor", "The cursor cannot be read.");
  if (!/^[A-Za-z0-9_-]+$/.test(text)) throw broken;
  let value: unknown;
  try {
    value = JSON.parse(Buffer.from(text, "base64url").toString("utf8"));
  } catch {
    throw broken;
  }
  const shape = cursorShape.safeParse(value);
  if (!shape.success) throw broken;
  return shape.data;
};

const decodeCursor = (
  table: ListTable,
  text: string,
  filter: Filter | null,
): Pick<ListRequest, "order" | "cursor"> => {
  if (text.length > maxCursorLength) throw notOffered("invalid_cursor", "The cursor is too long.");
  const { v, o, d, i, k, f } = readCursor(text);
  if (v !== cursorVersion || f !== hashOf(table, filter)) {
    throw notOffered("invalid_cursor", "The cursor belongs to another list or filter.");
  }
  const order = orderOfCursor(table, o);
  const keys = order.map(({ field }, at) => keyOfCursor(table.fields[field]?.type, k[at]));
  if (k.length !== order.length) throw notOffered("invalid_cursor", "The cursor does not fit its order.");
  return { order, cursor: { direction: d, inclusive: i, keys } };
};

const orderOfCursor = (table: ListTable, text: string): readonly OrderKey[] => {
  try {
    return parseOrderBy(table, text);
  } catch {
    throw notOffered("invalid_cursor", "The cursor belongs to another list.");
  }
};

const keyOfCursor = (type: FieldType | undefined, key: string | undefined): string => {
  const value = key === undefined ? null : canonicalKey(type, key);
  if (value === null) throw notOffered("invalid_cursor", "The cursor does not fit its order.");
  return value;
};

const canonicalKey = (type: FieldType | undefined, key: string): string | null => {
  if (type === "datetime") return canonicalInstant(key);
  if (type === "uuid") return isUuid(key) ? key : null;
  return isCleanText(key) ? key : null;
};

/**
 * Cuts the rows of `compileList` to a page in list order and makes its cursors (api.md §4, Pages).
 * `keyOf` gives the order key of a row as text: a timestamp with its microseconds, '' for no title.
 */
export const toPage = <Row>(
  table: ListTable,
  request: ListRequest,
  found: readonly Row[],
  keyOf: (row: Row, field: string) => string,
): { readonly rows: readonly Row[]; readonly page_info: PageInfo } => {
  const { cursor, limit } = request;
  const backwards = cursor?.direction === "prev";
  const more = found.length > limit;
  const kept = found.slice(0, limit);
  const rows = backwards ? kept.toReversed() : kept;
  const pointer = (direction: Cursor["direction"], edge: Row | undefined): string | null => {
    if (edge !== undefined) {
      const keys = request.order.map(({ field }) => keyOf(edge, field));
      return encodeCursor(table, request, { direction, inclusive: false, keys });
    }
    // An empty page: turn around at the cursor's own row, unless this page should have held it.
    if (cursor === null) return null;
    return encodeCursor(table, request, { direction, inclusive: !cursor.inclusive, keys: cursor.keys });
  };
  const hasNext = backwards || more;
  const hasPrevious = cursor !== null && (backwards ? more : true);
  return {
    rows,
    page_info: {
      limit,
      next_cursor: hasNext ? pointer("next", rows.at(-1)) : null,
      prev_cursor: hasPrevious ? pointer("prev", rows[0]) : null,
    },
  };
};
