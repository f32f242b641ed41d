import { invariant } from "../lib/assert.ts";
import { completeOrder, type FieldType, type ListTable, type OrderKey } from "./odata.ts";
import type { Comparison, Filter } from "./odata-filter.ts";
import type { ListRequest } from "./paging.ts";

/** Pieces of a list query, to be put into the statement of the store that owns the table. */
export interface ListSql {
  /** A boolean expression; `true` when nothing restricts the list. */
  readonly where: string;
  /** What follows `order by`. */
  readonly orderBy: string;
  /** A parameter: one row more than the page holds, which tells whether more follow. */
  readonly limit: string;
  /** A name for a statement that is otherwise always the same; null where clients decide on its text. */
  readonly name: string | null;
  /** Parameters from `$firstParam` on. */
  readonly values: readonly unknown[];
}

const casts: Readonly<Record<FieldType, string>> = {
  datetime: "timestamptz",
  uuid: "uuid",
  string: "text",
};

/** Collects parameters; client values never become part of the text. */
class Parameters {
  readonly values: unknown[] = [];
  readonly #first: number;

  constructor(first: number) {
    this.#first = first;
  }

  add(value: unknown, cast: string): string {
    this.values.push(value);
    return `$${this.#first + this.values.length - 1}::${cast}`;
  }
}

/** A page of the list in SQL: filter, position of the cursor, order. Parameters start at `firstParam`. */
export const compileList = (table: ListTable, request: ListRequest, firstParam: number): ListSql => {
  const parameters = new Parameters(firstParam);
  const conditions: string[] = [];
  if (request.filter !== null) conditions.push(filterSql(table, request.filter, parameters));
  const { cursor } = request;
  const backwards = cursor?.direction === "prev";
  const order = backwards ? request.order.map(flip) : request.order;
  if (cursor !== null) conditions.push(keysetSql(table, order, cursor, parameters));
  const limit = parameters.add(request.limit + 1, "int");
  return {
    where: conditions.length === 0 ? "true" : conditions.join(" and "),
    orderBy: order.map((key) => `${orderSql(table, key.field)} ${key.direction}`).join(", "),
    limit,
    name: nameOf(table, request),
    values: parameters.values,
  };
};

/** Filters and orders make endless texts; those of the pages everybody reads are few. */
const nameOf = (table: ListTable, { filter, order, cursor }: ListRequest): string | null => {
  const spelled = (keys: readonly OrderKey[]): string =>
    JSON.stringify(keys.map((key) => [key.field, key.direction]));
  if (filter !== null || spelled(order) !== spelled(completeOrder(table.defaultOrder))) return null;
  const place = cursor === null ? "" : `_${cursor.direction}${cursor.inclusive ? "_inclusive" : ""}`;
  return `${table.name}_page${place}`;
};

const flip = ({ field, direction }: OrderKey): OrderKey => ({
  field,
  direction: direction === "asc" ? "desc" : "asc",
});

const fieldOf = (table: ListTable, name: string) => {
  const field = table.fields[name];
  invariant(field !== undefined, `the list ${table.name} has no field ${name}`);
  return field;
};

// Code point order: the C collation compares the bytes of UTF-8, which sort the same way.
const byCodePoint = (sql: string, type: FieldType): string =>
  type === "string" ? `(${sql}) collate "C"` : sql;

const orderSql = (table: ListTable, name: string): string => {
  const field = fieldOf(table, name);
  return byCodePoint(field.orderSql ?? field.sql, field.type);
};

const operators: Readonly<Record<Comparison, string>> = {
  eq: "=",
  ne: "<>",
  gt: ">",
  ge: ">=",
  lt: "<",
  le: "<=",
};

const filterSql = (table: ListTable, filter: Filter, parameters: Parameters): string => {
  switch (filter.op) {
    case "and":
    case "or":
      return `(${filter.terms.map((term) => filterSql(table, term, parameters)).join(` ${filter.op} `)})`;
    case "not":
      return `(not ${filterSql(table, filter.term, parameters)})`;
    case "in": {
      const { sql, type } = fieldOf(table, filter.field);
      return `(${sql} = any(${parameters.add(filter.values, `${casts[type]}[]`)}))`;
    }
    case "contains":
      return `(position(${parameters.add(filter.value, "text")} in ${fieldOf(table, filter.field).sql}) > 0)`;
    case "startswith":
      return `starts_with(${fieldOf(table, filter.field).sql}, ${parameters.add(filter.value, "text")})`;
    case "endswith": {
      const { sql } = fieldOf(table, filter.field);
      const value = parameters.add(filter.value, "text");
      return `(right(${sql}, length(${value})) = ${value})`;
    }
    default: {
      const { sql, type } = fieldOf(table, filter.field);
      if (filter.value === null) return `(${sql} is ${filter.op === "eq" ? "" : "not "}null)`;
      return `(${byCodePoint(sql, type)} ${operators[filter.op]} ${parameters.add(filter.value, casts[type])})`;
    }
  }
};

/** The rows behind the cursor in this order; with `inclusive` also the row it names. */
const keysetSql = (
  table: ListTable,
  order: readonly OrderKey[],
  cursor: { readonly keys: readonly string[]; readonly inclusive: boolean },
  parameters: Parameters,
): string => {
  const columns = order.map(({ field, direction }, at) => ({
    sql: orderSql(table, field),
    comparison: direction === "asc" ? ">" : "<",
    value: parameters.add(cursor.keys[at] ?? "", casts[fieldOf(table, field).type]),
  }));
  const tail = cursor.inclusive ? "=" : "";
  const first = columns[0]?.comparison ?? ">";
  // One row comparison where all directions agree: it is the only form an index scan can start from.
  if (columns.every(({ comparison }) => comparison === first)) {
    const sides = [columns.map(({ sql }) => sql), columns.map(({ value }) => value)];
    return `(${sides.map((side) => `(${side.join(", ")})`).join(` ${first}${tail} `)})`;
  }
  const alternatives = columns.map(({ sql, comparison, value }, at) => {
    const equal = columns.slice(0, at).map((column) => `${column.sql} = ${column.value}`);
    const last = at === columns.length - 1 ? tail : "";
    return `(${[...equal, `${sql} ${comparison}${last} ${value}`].join(" and ")})`;
  });
  return `(${alternatives.join(" or ")})`;
};
