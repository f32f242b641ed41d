import fc from "fast-check";
import { afterAll, beforeAll, expect, test } from "vitest";
import { compileList } from "../../src/http/odata-sql.ts";
import { type PageInfo, parseListQuery, toPage } from "../../src/http/paging.ts";
import { createTestDatabase, type TestDatabase } from "../support/database.ts";
import { rowsTable } from "./list-support.ts";

interface Row {
  readonly id: string;
  readonly title: string | null;
  readonly updated_at: string;
}

let database: TestDatabase;
beforeAll(async () => {
  database = await createTestDatabase({ empty: true });
  await database.db.query(
    "create table list_rows (list int, id uuid, title varchar(255), updated_at timestamptz, primary key (list, id))",
  );
});
afterAll(() => database.drop());

let lists = 0;

/** Stores the rows as a list of their own and gives back its number. */
const store = async (rows: readonly Row[]): Promise<number> => {
  lists += 1;
  await database.db.query(
    "insert into list_rows select $1::int, * from unnest($2::uuid[], $3::text[], $4::timestamptz[])",
    [lists, rows.map(({ id }) => id), rows.map(({ title }) => title), rows.map((row) => row.updated_at)],
  );
  return lists;
};

const page = async (
  list: number,
  query: Record<string, string>,
): Promise<{ rows: readonly Row[]; page_info: PageInfo }> => {
  const request = parseListQuery(rowsTable, query);
  const sql = compileList(rowsTable, request, 2);
  const { rows } = await database.db.query<Row>(
    `select r.id, r.title, r.updated_at from list_rows r where r.list = $1 and ${sql.where}
     order by ${sql.orderBy} limit ${sql.limit}`,
    [list, ...sql.values],
  );
  return toPage(rowsTable, request, rows, (row, field) =>
    field === "id" ? row.id : field === "title" ? (row.title ?? "") : row.updated_at,
  );
};

const instants = ["2026-03-01T10:15:31.204518Z", "2026-03-01T10:15:31.204519Z", "2026-03-01T10:15:31Z"];
const titles = [null, "", "a", "A", "ä", "ab", "50%", "_", "it's", "\u{1f600}", "ﬀ"];
const row = fc.record({
  id: fc.uuid(),
  title: fc.constantFrom(...titles),
  updated_at: fc.constantFrom(...instants),
});
const rows = fc.uniqueArray(row, { selector: ({ id }) => id, maxLength: 12 });
const orders = [
  undefined,
  "updated_at",
  "title desc",
  "title,updated_at desc",
  "updated_at desc,title",
  "id desc",
];

const bytes = (text: string): string => Buffer.from(text).toString("hex");

/** The order of api.md §4, computed without a database. */
const sorted = (all: readonly Row[], orderBy: string | undefined): readonly string[] => {
  const { order } = parseListQuery(rowsTable, orderBy === undefined ? {} : { $orderby: orderBy });
  const key = (one: Row, field: string): string =>
    field === "id"
      ? one.id
      : field === "title"
        ? bytes(one.title ?? "")
        : one.updated_at.replace(/:31Z/, ":31.000000Z");
  return all
    .toSorted((one, other) => {
      for (const { field, direction } of order) {
        const [left, right] = [key(one, field), key(other, field)];
        if (left !== right) return (left < right ? -1 : 1) * (direction === "asc" ? 1 : -1);
      }
      return 0;
    })
    .map(({ id }) => id);
};

test("walking forwards, then backwards, by pages of any size visits every row once each way", async () => {
  await fc.assert(
    fc.asyncProperty(
      rows,
      fc.constantFrom(...orders),
      fc.integer({ min: 1, max: 5 }),
      async (all, order, size) => {
        const list = await store(all);
        const expected = sorted(all, order);
        const limit = String(size);
        const forwards: string[] = [];
        let here = await page(list, { limit, ...(order === undefined ? {} : { $orderby: order }) });
        expect(here.page_info.prev_cursor).toBeNull();
        for (;;) {
          forwards.push(...here.rows.map(({ id }) => id));
          const next = here.page_info.next_cursor;
          if (next === null) break;
          here = await page(list, { limit, cursor: next });
        }
        expect(forwards).toEqual(expected);
        const backwards = here.rows.map(({ id }) => id);
        for (let cursor = here.page_info.prev_cursor; cursor !== null; cursor = here.page_info.prev_cursor) {
          here = await page(list, { limit, cursor });
          expect(here.page_info.next_cursor).not.toBeNull();
          backwards.unshift(...here.rows.map(({ id }) => id));
        }
        expect(backwards).toEqual(expected);
      },
    ),
    { numRuns: 60 },
  );
});

const uuidOf = (at: number): string => `00000000-0000-4000-8000-00000000000${at}`;

const numbered = (count: number): Row[] =>
  Array.from({ length: count }, (_, at) => ({ id: uuidOf(at), title: null, updated_at: instants[0] ?? "" }));

const remove = (list: number, ids: readonly string[]): Promise<unknown> =>
  database.db.query("delete from list_rows where list = $1 and id = any($2::uuid[])", [list, ids]);

test("a page that became empty still leads back to the row it started from", async () => {
  const list = await store(numbered(4));
  const first = await page(list, { limit: "2", $orderby: "id" });
  await remove(list, [uuidOf(2), uuidOf(3)]);
  const empty = await page(list, { limit: "2", cursor: first.page_info.next_cursor ?? "" });
  expect(empty.rows).toEqual([]);
  expect(empty.page_info.next_cursor).toBeNull();
  const back = await page(list, { limit: "2", cursor: empty.page_info.prev_cursor ?? "" });
  expect(back.rows.map(({ id }) => id)).toEqual([uuidOf(0), uuidOf(1)]);
});

test("a backward page that became empty leads forward to the row it started from", async () => {
  const list = await store(numbered(4));
  const first = await page(list, { limit: "2", $orderby: "id" });
  const second = await page(list, { limit: "2", cursor: first.page_info.next_cursor ?? "" });
  await remove(list, [uuidOf(0), uuidOf(1)]);
  const empty = await page(list, { limit: "2", cursor: second.page_info.prev_cursor ?? "" });
  expect(empty.rows).toEqual([]);
  const forth = await page(list, { limit: "2", cursor: empty.page_info.next_cursor ?? "" });
  expect(forth.rows.map(({ id }) => id)).toEqual([uuidOf(2), uuidOf(3)]);
});

const titled = (title: string | null, at: number): Row => ({
  id: uuidOf(at),
  title,
  updated_at: instants[at % 3] ?? "",
});

test.each<[string, number[]]>([
  ["title eq null", [0]],
  ["title ne null", [1, 2, 3, 4, 5]],
  ["title eq 'a%'", [1]],
  ["title ne 'a%'", [2, 3, 4, 5]],
  ["not title eq 'a%'", [2, 3, 4, 5]],
  ["title in ('a%','B')", [1, 3]],
  ["contains(title,'%')", [1]],
  ["contains(title,'b')", [2]],
  ["contains(title,'')", [1, 2, 3, 4, 5]],
  ["startswith(title,'a')", [1, 2]],
  ["endswith(title,'''s')", [4]],
  ["endswith(title,'')", [1, 2, 3, 4, 5]],
  ["title gt 'Z'", [1, 2, 4, 5]],
  ["title lt 'a'", [3]],
  ["title ge 'ä'", [5]],
  ["updated_at eq 2026-03-01T10:15:31.204518Z", [0, 3]],
  ["updated_at eq 2026-03-01T12:15:31.204518+02:00", [0, 3]],
  ["updated_at le 2026-03-01T10:15:31Z", [2, 5]],
  ["updated_at gt 2026-03-01", [0, 1, 2, 3, 4, 5]],
  ["updated_at lt 0000-01-01", []],
  ["updated_at lt 9999-12-31T23:59:59-23:59", [0, 1, 2, 3, 4, 5]],
  [`id eq ${uuidOf(3).toUpperCase()}`, [3]],
  [`id gt ${uuidOf(3)}`, [4, 5]],
  [`id in (${uuidOf(1)},${uuidOf(4)})`, [1, 4]],
  ["title eq 'B' or title eq 'a%' and title eq 'b'", [3]],
  ["(title eq 'B' or title eq 'a%') and not startswith(title,'a')", [3]],
])("$filter=%s finds rows %j", async (filter, found) => {
  const list = await store([null, "a%", "ab", "B", "it's", "ä"].map(titled));
  const { rows: hits } = await page(list, { $filter: filter, $orderby: "id" });
  expect(hits.map(({ id }) => Number(id.at(-1)))).toEqual(found);
});

test("every filter that parses also runs", async () => {
  const list = await store(numbered(1));
  const literal = fc.oneof(
    fc.string({ unit: "binary" }).map((text) => `'${text.replaceAll("'", "''").replaceAll("\0", "")}'`),
    fc.constantFrom(
      "null",
      "true",
      "1e5",
      uuidOf(1),
      "0001-01-01",
      "2026-03-01T00:00:60Z",
      "0000-12-31T23:00:00+23:59",
    ),
  );
  const field = fc.constantFrom("title", "id", "updated_at");
  const clause = fc.oneof(
    fc
      .tuple(field, fc.constantFrom("eq", "ne", "gt", "le", "in"), literal)
      .map(([name, op, value]) => (op === "in" ? `${name} in (${value})` : `${name} ${op} ${value}`)),
    fc
      .tuple(fc.constantFrom("contains", "startswith", "endswith"), literal)
      .map(([fn, value]) => `${fn}(title,${value})`),
  );
  const filter = fc.array(clause, { minLength: 1, maxLength: 4 }).map((clauses) => clauses.join(" or not "));
  await fc.assert(
    fc.asyncProperty(filter, async ($filter) => {
      try {
        parseListQuery(rowsTable, { $filter });
      } catch {
        return;
      }
      await page(list, { $filter });
    }),
    { numRuns: 300 },
  );
});
