import { randomUUID } from "node:crypto";
import fc from "fast-check";
import { afterAll, describe, expect, test } from "vitest";
import type { Answer } from "../support/app.ts";
import { callers } from "../support/config.ts";
import {
  arbitraryRows,
  equalRows,
  instants,
  type ListUnderTest,
  lister,
  lists,
  sortedIds,
} from "./list-data.ts";
import { startApiApp } from "./support.ts";

const app = await startApiApp({ config: { role: "api" } });
afterAll(() => app.close());

const get = (path: string, query: Record<string, string> = {}, caller = lister): Promise<Answer> => {
  const parameters = new URLSearchParams(query).toString();
  return app.call("GET", `${path}${parameters === "" ? "" : `?${parameters}`}`, { caller });
};

const idsOf = ({ body }: Answer): string[] => body.items.map(({ id }: { id: string }) => id);
const outcome = ({ status, body }: Answer): string =>
  status === 200 ? "200" : `${status} ${body.code} ${body.title}`;

/** Reads a list to its end and back to its start. */
const walk = async (path: string, query: Record<string, string>, limit: string) => {
  const forwards: string[] = [];
  let here = await get(path, { ...query, limit });
  expect(here.body.page_info.prev_cursor).toBeNull();
  const { $orderby: _order, ...repeated } = query;
  for (;;) {
    expect(here.status).toBe(200);
    expect(idsOf(here).length).toBeLessThanOrEqual(Number(limit));
    forwards.push(...idsOf(here));
    const cursor = here.body.page_info.next_cursor;
    if (cursor === null) break;
    here = await get(path, { ...repeated, limit, cursor });
  }
  const backwards = idsOf(here);
  for (
    let cursor = here.body.page_info.prev_cursor;
    cursor !== null;
    cursor = here.body.page_info.prev_cursor
  ) {
    here = await get(path, { ...repeated, limit, cursor });
    expect(here.body.page_info.next_cursor).not.toBeNull();
    backwards.unshift(...idsOf(here));
  }
  return { forwards, backwards };
};

describe.each(lists)("$name", (list: ListUnderTest) => {
  const orders = [
    undefined,
    list.at,
    `${list.text} desc`,
    `${list.text},${list.at} desc`,
    `${list.at} desc,${list.text}`,
    "id desc",
    `${list.text} asc, id desc`,
  ];

  test("walking forwards, then backwards, by pages of any size visits every row once each way", async () => {
    await fc.assert(
      fc.asyncProperty(
        arbitraryRows(list),
        fc.constantFrom(...orders),
        fc.integer({ min: 1, max: 13 }),
        async (rows, order, size) => {
          const path = await list.fill(app, rows);
          const query = order === undefined ? {} : { $orderby: order };
          const { forwards, backwards } = await walk(path, query, String(size));
          expect(forwards).toEqual(sortedIds(list, rows, order));
          expect(backwards).toEqual(forwards);
        },
      ),
      { numRuns: 60 },
    );
  });

  test("a filtered list is walked the same way", async () => {
    const rows = [...equalRows(5, list.texts[1] ?? "a"), ...equalRows(4, list.texts[2] ?? "A")];
    const path = await list.fill(app, rows);
    const $filter = `${list.text} eq '${list.texts[1]}'`;
    const { forwards, backwards } = await walk(path, { $filter }, "2");
    expect(forwards).toEqual(sortedIds(list, rows.slice(0, 5)));
    expect(backwards).toEqual(forwards);
  });

  test("rows that come or go between two pages are neither skipped nor repeated around the edge", async () => {
    const rows = equalRows(6, list.texts[1] ?? "a");
    const path = await list.fill(app, rows);
    const order = sortedIds(list, rows, "id");
    const first = await get(path, { limit: "2", $orderby: "id" });
    const table = list.text === "title" ? "chats" : "messages";
    await app.db.query(`delete from ${table} where id = any($1::uuid[])`, [[order[1], order[2]]]);
    const second = await get(path, { limit: "2", cursor: first.body.page_info.next_cursor });
    expect(idsOf(second)).toEqual([order[3], order[4]]);
  });

  test("the pages everybody reads are statements with names, and clients make no more of them", async () => {
    const path = await list.fill(app, equalRows(5, list.texts[1] ?? "a"));
    const table = list.text === "title" ? "chats" : "messages";
    const names = new Set<string>();
    const { onStatement } = app.db;
    app.db.onStatement = (name) => names.add(name);
    const paged = async (query: Record<string, string> = {}): Promise<string[]> => {
      names.clear();
      for (const limit of ["1", "2", "3"]) await walk(path, query, limit);
      return [...names].filter((name) => name.startsWith(`${table}_page`)).sort();
    };
    try {
      const usual = [`${table}_page`, `${table}_page_next`, `${table}_page_prev`];
      expect(await paged()).toEqual(usual);
      expect(await paged({ $orderby: list.defaultOrder })).toEqual(usual);
      expect(await paged({ $orderby: `${list.text} desc` })).toEqual([]);
      expect(await paged({ $filter: `${list.text} ne 'other'` })).toEqual([]);
    } finally {
      app.db.onStatement = onStatement;
    }
  });

  test("limit: 20 without one, at most 100, and it may change from page to page, as may $select", async () => {
    const path = await list.fill(app, equalRows(130, list.texts[1] ?? "a"));
    const plain = await get(path);
    expect([idsOf(plain).length, plain.body.page_info.limit]).toEqual([20, 20]);
    for (const limit of ["100", "101", "18446744073709551616"]) {
      const page = await get(path, { limit });
      expect([idsOf(page).length, page.body.page_info.limit]).toEqual([100, 100]);
    }
    const { next_cursor: cursor } = plain.body.page_info;
    const next = await get(path, { cursor, limit: "7", $select: "id" });
    expect([next.body.items.length, next.body.page_info.limit]).toEqual([7, 7]);
    expect(next.body.items.every((item: object) => Object.keys(item).join() === "id")).toBe(true);
    expect(new Set([...idsOf(plain), ...idsOf(next)]).size).toBe(27);
  });

  test("an empty list is a page without cursors", async () => {
    const path = await list.fill(app, []);
    const nothing = { items: [], page_info: { limit: 20, next_cursor: null, prev_cursor: null } };
    expect((await get(path)).body).toEqual(nothing);
  });

  test("$select leaves exactly the named fields that have a value", async () => {
    const path = await list.fill(app, equalRows(1, list.texts[1] ?? "a"));
    const [whole] = (await get(path)).body.items;
    for (const name of list.fields) {
      const { items, page_info } = (await get(path, { $select: name })).body;
      expect(items).toEqual([name in whole ? { [name]: whole[name] } : {}]);
      expect(page_info).toEqual({ limit: 20, next_cursor: null, prev_cursor: null });
    }
    const [two] = (await get(path, { $select: `${list.at} , id` })).body.items;
    expect(two).toEqual({ id: whole.id, [list.at]: whole[list.at] });
  });

  test("$select does not disturb the order or the cursors", async () => {
    const rows = equalRows(5, list.texts[1] ?? "a");
    const path = await list.fill(app, rows);
    const first = await get(path, { limit: "3", $select: list.text });
    expect(first.body.items[0].id).toBeUndefined();
    const second = await get(path, { limit: "3", cursor: first.body.page_info.next_cursor });
    expect(idsOf(second)).toEqual(sortedIds(list, rows).slice(3));
  });

  const long = (length: number, unit: string): string => Array.from({ length }, () => unit).join(",");
  const id = "0195e2c4-7f10-7c3e-9a51-0c6b1f2d3e4f";

  test.each<[string, string]>([
    ["limit=0", "422 invalid_filter Invalid Filter"],
    ["limit=00", "422 invalid_filter Invalid Filter"],
    ["limit=-1", "400 invalid_request Bad Request"],
    ["limit=1.5", "400 invalid_request Bad Request"],
    ["limit=1e2", "400 invalid_request Bad Request"],
    ["limit=0x10", "400 invalid_request Bad Request"],
    ["limit=+1", "400 invalid_request Bad Request"],
    ["limit=%D9%A1", "400 invalid_request Bad Request"],
    ["limit=ten", "400 invalid_request Bad Request"],
    ["limit=5&limit=5", "400 invalid_request Bad Request"],
    ["limit=%35&%6Cimit=5", "400 invalid_request Bad Request"],
    ["$filter=id&%24filter=id", "400 invalid_request Bad Request"],
    ["limit=%zz", "400 invalid_request Bad Request"],
    ["unknown=%zz", "400 invalid_request Bad Request"],
    ["limit=%C3", "400 invalid_request Bad Request"],
    ["$filter=%00", "400 invalid_request Bad Request"],
    ["$filter=id", "422 invalid_filter Invalid Filter"],
    [`$filter=id EQ ${id}`, "422 invalid_filter Invalid Filter"],
    ["$filter=(", "422 invalid_filter Invalid Filter"],
    ["$filter=nothing eq", "422 invalid_filter Invalid Filter"],
    ["$filter=nothing eq 1", "400 invalid_filter Invalid Filter"],
    ["$filter=tenant_id eq 1", "400 invalid_filter Invalid Filter"],
    ["$filter=user_id eq 1", "400 invalid_filter Invalid Filter"],
    ["$filter=id eq 1", "400 invalid_filter Invalid Filter"],
    [`$filter=id eq '${id}'`, "400 invalid_filter Invalid Filter"],
    ["$filter=id gt null", "400 invalid_filter Invalid Filter"],
    ["$filter=contains(id,'a')", "400 invalid_filter Invalid Filter"],
    [`$filter=${list.at} eq 10:15:31`, "400 invalid_filter Invalid Filter"],
    [`$filter=${list.at} eq 'a'`, "400 invalid_filter Invalid Filter"],
    [`$filter=${list.text} eq 1`, "400 invalid_filter Invalid Filter"],
    [`$filter=${list.text} eq true`, "400 invalid_filter Invalid Filter"],
    [`$filter=${list.text} in ('a',null)`, "400 invalid_filter Invalid Filter"],
    [`$filter=${list.text} eq '${"x".repeat(8_200)}'`, "400 invalid_filter Bad Request"],
    [`$filter=${"(".repeat(101)}id eq ${id}${")".repeat(101)}`, "400 invalid_filter Bad Request"],
    [`$orderby=${list.at} DESC`, "422 invalid_orderby Invalid OrderBy"],
    [`$orderby=${list.at} down`, "422 invalid_orderby Invalid OrderBy"],
    [`$orderby=${list.at},,id`, "422 invalid_orderby Invalid OrderBy"],
    ["$orderby=model", "400 invalid_orderby Invalid OrderBy"],
    ["$orderby=content", "400 invalid_orderby Invalid OrderBy"],
    ["$orderby=id,ID", "400 invalid_orderby Invalid OrderBy"],
    [`$orderby=${long(11, "id")}`, "400 invalid_orderby Invalid OrderBy"],
    [`$orderby=${" ".repeat(1_025)}`, "400 invalid_orderby Invalid OrderBy"],
    ["$select=nothing", "400 invalid_select Invalid Select"],
    ["$select=tenant_id", "400 invalid_select Invalid Select"],
    ["$select=id,id", "400 invalid_select Invalid Select"],
    ["$select=id,", "400 invalid_select Invalid Select"],
    ["$select=%2C", "400 invalid_select Invalid Select"],
    [`$select=${long(101, "id")}`, "400 invalid_select Invalid Select"],
    [`$select=${"x".repeat(2_049)}`, "400 invalid_select Invalid Select"],
    ["cursor=!", "422 invalid_cursor Invalid Cursor"],
    ["cursor=bm90IGpzb24", "422 invalid_cursor Invalid Cursor"],
    ["cursor=e30", "422 invalid_cursor Invalid Cursor"],
    [`cursor=${"A".repeat(4_097)}`, "400 invalid_cursor Invalid Cursor"],
    ["limit=&cursor=&$filter=&$orderby=&$select=", "200"],
    ["unknown=1&unknown=2&$top=3&$skip=x&$count=y", "200"],
    ["%24orderby=id%20desc&%24select=id", "200"],
    ["$orderby=ID+desc", "200"],
  ])("?%s", async (query, expected) => {
    const path = await list.fill(app, equalRows(1, list.texts[1] ?? "a"));
    const target = `/v1${path}?${query.replaceAll(" ", "%20")}`;
    const send = (where: string): Promise<Answer> =>
      app.raw({ method: "GET", target: where, headers: { authorization: `Bearer ${lister.token}` } });
    expect(outcome(await send(target))).toBe(expected);
    // A bad query is refused before anything of the list is read, also of a list that is not there.
    if (expected === "200" || list.text === "title") return;
    expect(outcome(await send(target.replace(/chats\/[^/]+/, `chats/${randomUUID()}`)))).toBe(expected);
  });

  describe("a cursor", () => {
    const $filter = `${list.text} ne 'zzz'`;
    const firstPage = async (query: Record<string, string> = {}) => {
      const path = await list.fill(app, equalRows(4, list.texts[1] ?? "a"));
      const page = await get(path, { limit: "2", ...query });
      return { path, cursor: String(page.body.page_info.next_cursor) };
    };

    test("is base64url, short, and names nobody", async () => {
      const { cursor } = await firstPage({ $filter });
      expect(cursor).toMatch(/^[A-Za-z0-9_-]{1,4096}$/);
      const text = Buffer.from(cursor, "base64url").toString();
      expect(text).not.toContain(lister.userId);
      expect(text).not.toContain(lister.tenantId);
    });

    test("brings its own order: $orderby beside it is 422", async () => {
      const { path, cursor } = await firstPage();
      expect(outcome(await get(path, { cursor, $orderby: "id" }))).toBe("422 invalid_cursor Invalid Cursor");
    });

    test("needs the filter it was made with: another, a new or a dropped one is 400", async () => {
      const refused = "400 invalid_cursor Invalid Cursor";
      const { path, cursor } = await firstPage({ $filter });
      expect(outcome(await get(path, { cursor, $filter }))).toBe("200");
      expect(outcome(await get(path, { cursor, $filter: `${list.text} ne 'zz'` }))).toBe(refused);
      expect(outcome(await get(path, { cursor }))).toBe(refused);
      const plain = await firstPage();
      expect(outcome(await get(plain.path, { cursor: plain.cursor, $filter }))).toBe(refused);
    });

    test("of the other list is 400", async () => {
      const { cursor } = await firstPage();
      for (const other of lists.filter((one) => one !== list)) {
        const path = await other.fill(app, equalRows(1, other.texts[1] ?? "a"));
        expect(outcome(await get(path, { cursor }))).toBe("400 invalid_cursor Invalid Cursor");
      }
    });

    test("in other hands moves within the list of those hands", async () => {
      const { path, cursor } = await firstPage();
      if (list.text === "role") {
        expect((await get(path, { cursor }, callers.ann)).status).toBe(404);
        return;
      }
      const own = await app.createChat(callers.ann);
      const stolen = await get(path, { cursor, limit: "100" }, callers.ann);
      const { rows } = await app.db.query<{ id: string }>("select id from chats where user_id = $1", [
        callers.ann.userId,
      ]);
      expect(rows.map((row) => row.id)).toContain(own);
      for (const id of idsOf(stolen)) expect(rows.map((row) => row.id)).toContain(id);
    });

    test("forged in any way is refused or shows rows of one's own list, never an error of ours", async () => {
      const { path, cursor } = await firstPage();
      const own = new Set(idsOf(await get(path, { limit: "100" })));
      const honest = JSON.parse(Buffer.from(cursor, "base64url").toString());
      const value = fc.oneof(
        fc.string({ unit: "binary", maxLength: 12 }),
        fc.constantFrom(
          ...instants,
          randomUUID(),
          "0001-01-01T00:00:00Z",
          "9999-12-31T23:59:59.999999Z",
          "",
          "'; --",
        ),
      );
      const forged = fc.oneof(
        fc.string({ maxLength: 40 }),
        fc.base64String(),
        fc.json().map((text) => Buffer.from(text).toString("base64url")),
        fc
          .record({
            keys: fc.array(value, { maxLength: 4 }),
            order: fc.constantFrom(honest.o, "id asc", "id,x", list.text),
            rest: fc.object(),
          })
          .map(({ keys, order, rest }) => ({ ...honest, k: keys, o: order, ...rest }))
          .map((body) => Buffer.from(JSON.stringify(body)).toString("base64url")),
        fc.tuple(fc.nat(cursor.length - 1), fc.constantFrom("A", "z", "_", "=")).map(([at, letter]) => {
          return cursor.slice(0, at) + letter + cursor.slice(at + 1);
        }),
      );
      await fc.assert(
        fc.asyncProperty(forged, async (text) => {
          const answer = await get(path, { cursor: text });
          if (text === "") expect(answer.status).toBe(200);
          if (answer.status === 200) for (const id of idsOf(answer)) expect(own).toContain(id);
          else expect(outcome(answer)).toMatch(/^4(00|22) invalid_(cursor|request) /);
        }),
        { numRuns: 150 },
      );
    });
  });
});
