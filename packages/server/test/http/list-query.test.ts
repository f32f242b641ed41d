import fc from "fast-check";
import { expect, test } from "vitest";
import { AppError } from "../../src/errors.ts";
import { selectFields } from "../../src/http/odata.ts";
import { encodeCursor, parseListQuery } from "../../src/http/paging.ts";
import { rowsTable } from "./list-support.ts";

const refusal = (query: Record<string, string>): string => {
  try {
    parseListQuery(rowsTable, query);
  } catch (error) {
    if (error instanceof AppError) return `${error.status} ${error.code} ${error.title}`;
    throw error;
  }
  return "accepted";
};

const id = "0195e2c4-7f10-7c3e-9a51-0c6b1f2d3e4f";
const nested = (levels: number): string => `${"(".repeat(levels)}title eq 'a'${")".repeat(levels)}`;

const unparsable = "422 invalid_filter Invalid Filter";
const notOffered = "400 invalid_filter Invalid Filter";
const tooComplex = "400 invalid_filter Bad Request";

test.each<[string, string]>([
  ["title eq 'a'", "accepted"],
  ["TITLE eq 'a'", "accepted"],
  ["title eq 'it''s'", "accepted"],
  ["title eq ''", "accepted"],
  ["title eq null", "accepted"],
  ["title ne null", "accepted"],
  [`id eq ${id}`, "accepted"],
  [`id in (${id},${id.toUpperCase()})`, "accepted"],
  ["title in('a')", "accepted"],
  ["updated_at gt 2026-03-01T10:15:31.204518Z", "accepted"],
  ["updated_at gt 2026-03-01T10:15:31+02:00", "accepted"],
  ["updated_at ge 2026-03-01", "accepted"],
  ["updated_at ge 0000-01-01", "accepted"],
  ["contains(title,'%')", "accepted"],
  ["not contains(title, 'a') and (title eq 'b' or startswith(title,'c'))", "accepted"],
  ["  title   eq 'a'  ", "accepted"],
  [nested(100), "accepted"],
  ["title", unparsable],
  ["title eq", unparsable],
  ["title EQ 'a'", unparsable],
  ["title eq 'a", unparsable],
  ["title eq 'a' 'b'", unparsable],
  ["title eq 'a' AND title eq 'b'", unparsable],
  ["title eq title", unparsable],
  ["'a' eq title", unparsable],
  ["(title eq 'a'", unparsable],
  ["title eq 'a')", unparsable],
  ["title in ()", unparsable],
  ["title in 'a'", unparsable],
  ["not not title eq 'a'", unparsable],
  ["contains(title)", unparsable],
  ["contains(title, 1)", unparsable],
  ["length(title) eq 1", unparsable],
  ['title eq "a"', unparsable],
  ["updated_at gt 2026-02-30", unparsable],
  ["updated_at gt 2026-03-01T25:00:00Z", unparsable],
  ["updated_at gt 2026-03-01T10:15:31", unparsable],
  ["nothing eq 'a' and", unparsable],
  ["nothing eq 'a'", notOffered],
  ["tenant_id eq 'a'", notOffered],
  ["title eq 1", notOffered],
  ["title eq true", notOffered],
  [`title eq ${id}`, notOffered],
  ["id eq 'a'", notOffered],
  ["id eq 7", notOffered],
  ["updated_at gt '2026-03-01'", notOffered],
  ["updated_at gt 10:15:31", notOffered],
  ["title gt null", notOffered],
  ["title in (null)", notOffered],
  ["contains(id,'a')", notOffered],
  ["contains(updated_at,'a')", notOffered],
  [nested(101), tooComplex],
  [`title eq '${"x".repeat(8_200)}'`, tooComplex],
  [`title in (${"'',".repeat(2_000)}'')`, tooComplex],
])("$filter=%s", (filter, outcome) => {
  expect(refusal({ $filter: filter })).toBe(outcome);
});

test.each<[string, string]>([
  ["title", "accepted"],
  ["Title desc, ID asc", "accepted"],
  ["title DESC", "422 invalid_orderby Invalid OrderBy"],
  ["title up", "422 invalid_orderby Invalid OrderBy"],
  ["title,,id", "422 invalid_orderby Invalid OrderBy"],
  ["title;id", "422 invalid_orderby Invalid OrderBy"],
  ["model", "400 invalid_orderby Invalid OrderBy"],
  ["title,title desc", "400 invalid_orderby Invalid OrderBy"],
  [Array.from({ length: 11 }, (_, at) => `f${at}`).join(","), "400 invalid_orderby Invalid OrderBy"],
  [" ".repeat(1_025), "400 invalid_orderby Invalid OrderBy"],
])("$orderby=%s", (text, outcome) => {
  expect(refusal({ $orderby: text })).toBe(outcome);
});

test.each<[string, string]>([
  ["id,Title", "accepted"],
  ["id, id", "400 invalid_select Invalid Select"],
  ["id,", "400 invalid_select Invalid Select"],
  ["id title", "400 invalid_select Invalid Select"],
  ["secret", "400 invalid_select Invalid Select"],
  ["x".repeat(2_049), "400 invalid_select Invalid Select"],
  [Array.from({ length: 101 }, () => "id").join(","), "400 invalid_select Invalid Select"],
])("$select=%s", (text, outcome) => {
  expect(refusal({ $select: text })).toBe(outcome);
});

test.each<[string, string | number]>([
  ["1", 1],
  ["100", 100],
  ["101", 100],
  ["99999999999999999999", 100],
  ["0", "422 invalid_filter Invalid Filter"],
  ["-1", "400 invalid_request Bad Request"],
  ["1.5", "400 invalid_request Bad Request"],
  ["ten", "400 invalid_request Bad Request"],
])("limit=%s", (text, outcome) => {
  if (typeof outcome === "string") expect(refusal({ limit: text })).toBe(outcome);
  else expect(parseListQuery(rowsTable, { limit: text }).limit).toBe(outcome);
});

test("without a query: 20 rows in the default order, made total by id", () => {
  expect(parseListQuery(rowsTable, {})).toEqual({
    limit: 20,
    filter: null,
    select: null,
    cursor: null,
    order: [
      { field: "updated_at", direction: "desc" },
      { field: "id", direction: "desc" },
    ],
  });
});

test("id is appended in the direction of the key before it, and not twice", () => {
  const order = (text: string) =>
    parseListQuery(rowsTable, { $orderby: text }).order.map(
      ({ field, direction }) => `${field} ${direction}`,
    );
  expect(order("updated_at,title desc")).toEqual(["updated_at asc", "title desc", "id desc"]);
  expect(order("id desc,title")).toEqual(["id desc", "title asc"]);
});

const encoded = (body: unknown): string => Buffer.from(JSON.stringify(body)).toString("base64url");
const plain = parseListQuery(rowsTable, {});
const keys = ["2026-03-01T10:15:31.2Z", id];
const valid = encodeCursor(rowsTable, plain, { direction: "next", inclusive: false, keys });
const body = JSON.parse(Buffer.from(valid, "base64url").toString());

test.each<[string, string, string]>([
  ["as made", valid, "accepted"],
  ["no base64url", "a+b", "422 invalid_cursor Invalid Cursor"],
  ["no JSON", encoded("x").slice(0, -1), "422 invalid_cursor Invalid Cursor"],
  ["other shape", encoded({ ...body, k: "x" }), "422 invalid_cursor Invalid Cursor"],
  ["other version", encoded({ ...body, v: 2 }), "400 invalid_cursor Invalid Cursor"],
  ["order of another list", encoded({ ...body, o: "created_at asc" }), "400 invalid_cursor Invalid Cursor"],
  ["other filter", encoded({ ...body, f: "x" }), "400 invalid_cursor Invalid Cursor"],
  ["too few keys", encoded({ ...body, k: keys.slice(1) }), "400 invalid_cursor Invalid Cursor"],
  ["too many keys", encoded({ ...body, k: [...keys, id] }), "400 invalid_cursor Invalid Cursor"],
  ["key of another type", encoded({ ...body, k: ["x", id] }), "400 invalid_cursor Invalid Cursor"],
  ["too long", "x".repeat(4_097), "400 invalid_cursor Invalid Cursor"],
])("cursor %s", (_name, cursor, outcome) => {
  expect(refusal({ cursor })).toBe(outcome);
});

test("a cursor of another list is refused", () => {
  const other = { ...rowsTable, name: "others" };
  const cursor = encodeCursor(other, plain, { direction: "next", inclusive: false, keys });
  expect(refusal({ cursor })).toBe("400 invalid_cursor Invalid Cursor");
});

test("the order comes from the cursor: $orderby beside it is 422", () => {
  expect(refusal({ cursor: valid, $orderby: "id" })).toBe("422 invalid_cursor Invalid Cursor");
});

test("the filter must be repeated with the same meaning; adding, changing or dropping it is 400", () => {
  const filtered = parseListQuery(rowsTable, { $filter: "title eq 'a'" });
  const cursor = encodeCursor(rowsTable, filtered, { direction: "next", inclusive: false, keys });
  expect(refusal({ cursor, $filter: " Title  eq 'a'" })).toBe("accepted");
  expect(refusal({ cursor, $filter: "title eq 'b'" })).toBe("400 invalid_cursor Invalid Cursor");
  expect(refusal({ cursor })).toBe("400 invalid_cursor Invalid Cursor");
  expect(refusal({ cursor: valid, $filter: "title eq 'a'" })).toBe("400 invalid_cursor Invalid Cursor");
});

test("whatever the query, the answer is a list or a refusal, never an exception", () => {
  const word = fc.constantFrom(
    "title",
    "id",
    "eq",
    "in",
    "(",
    ")",
    ",",
    "'a'",
    "and",
    "not",
    "null",
    id,
    "2026-03-01",
    " ",
    "contains",
  );
  const text = fc.oneof(
    fc.string({ unit: "binary" }),
    fc.array(word).map((words) => words.join(" ")),
  );
  fc.assert(
    fc.property(
      fc.record(
        { limit: text, cursor: text, $filter: text, $orderby: text, $select: text },
        { requiredKeys: [] },
      ),
      (query) => {
        expect(refusal(query)).toMatch(/^(accepted|4(00|22) invalid_)/);
      },
    ),
    { numRuns: 500 },
  );
});

test("an item holds exactly the selected fields that have a value", () => {
  const item: { id: string; title?: string; model: string } = { id: "1", model: "m" };
  expect(selectFields(item, ["model", "title"])).toEqual({ model: "m" });
  expect(selectFields(item, null)).toEqual(item);
});
