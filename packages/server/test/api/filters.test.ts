import fc from "fast-check";
import { afterAll, describe, expect, test } from "vitest";
import type { Answer } from "../support/app.ts";
import { instants, type ListedRow, type ListUnderTest, lister, lists } from "./list-data.ts";
import { startApiApp } from "./support.ts";

const app = await startApiApp({ config: { role: "api" } });
afterAll(() => app.close());

const [chats, messages] = lists as [ListUnderTest, ListUnderTest];
const uuid = (at: number): string => `0195e2c4-7f10-4c3e-9a51-00000000000${at}`;

const filtered = (path: string, filter: string): Promise<Answer> =>
  app.call("GET", `${path}?$orderby=id&limit=100&$filter=${encodeURIComponent(filter)}`, { caller: lister });

const found = async (path: string, filter: string): Promise<number[]> => {
  const { status, body } = await filtered(path, filter);
  expect(status, JSON.stringify(body)).toBe(200);
  return body.items.map(({ id }: { id: string }) => Number(id.at(-1)));
};

const rowsOf = (texts: readonly (string | null)[]): readonly ListedRow[] =>
  texts.map((text, at) => ({ id: uuid(at), text, at: instants[at % 3] ?? "" }));

describe("chats by title, time and id", () => {
  const rows = rowsOf([null, "a%", "ab", "B", "it's", "ä"]);

  test.each<[string, number[]]>([
    ["title eq null", [0]],
    ["title ne null", [1, 2, 3, 4, 5]],
    ["not title eq null", [1, 2, 3, 4, 5]],
    ["title eq 'a%'", [1]],
    ["title eq 'A%'", []],
    ["title ne 'a%'", [2, 3, 4, 5]],
    ["not title eq 'a%'", [2, 3, 4, 5]],
    ["TITLE in ('a%' , 'B')", [1, 3]],
    ["not title in ('B')", [1, 2, 4, 5]],
    ["contains(title,'%')", [1]],
    ["contains(title,'_')", []],
    ["contains(title,'b')", [2]],
    ["contains(title,'')", [1, 2, 3, 4, 5]],
    ["startswith(title,'a')", [1, 2]],
    ["startswith(title,'A')", []],
    ["endswith(title,'''s')", [4]],
    ["title eq 'it''s'", [4]],
    ["title gt 'Z'", [1, 2, 4, 5]],
    ["title le 'a%'", [1, 3]],
    ["title ge 'ä'", [5]],
    ["updated_at eq 2026-03-01T10:15:31.204518Z", [0, 3]],
    ["updated_at eq 2026-03-01T12:15:31.204518+02:00", [0, 3]],
    ["updated_at lt 2026-03-01T10:15:31.204519Z", [0, 2, 3, 5]],
    ["updated_at in (2026-03-01T10:15:31Z, 2026-03-01T10:15:31.204519Z)", [1, 2, 4, 5]],
    ["updated_at ge 2026-03-01", [0, 1, 2, 3, 4, 5]],
    ["updated_at eq 2026-03-01", []],
    ["updated_at lt 2026-03-01", []],
    ["updated_at ne null", [0, 1, 2, 3, 4, 5]],
    [`id eq ${uuid(3).toUpperCase()}`, [3]],
    [`id gt ${uuid(3)}`, [4, 5]],
    [`id in (${uuid(1)},${uuid(4)},${uuid(9)})`, [1, 4]],
    ["title eq 'B' or title eq 'a%' and title eq 'b'", [3]],
    ["(title eq 'B' or title eq 'a%') and title eq 'a%'", [1]],
    ["not (title eq 'B' or title eq 'a%')", [2, 4, 5]],
    ["not contains(title,'b') and updated_at le 2026-03-01T10:15:31Z", [5]],
  ])("%s", async (filter, expected) => {
    expect(await found(await chats.fill(app, rows), filter)).toEqual(expected);
  });
});

describe("messages by role, time and id", () => {
  const rows = rowsOf(["user", "assistant", "system", "user", "assistant"]);

  test.each<[string, number[]]>([
    ["role eq 'user'", [0, 3]],
    ["role ne 'user'", [1, 2, 4]],
    ["role in ('user','system')", [0, 2, 3]],
    ["role eq 'robot'", []],
    ["role gt 'assistant' and role lt 'user'", [2]],
    ["contains(role,'s')", [0, 1, 2, 3, 4]],
    ["startswith(role,'ass')", [1, 4]],
    ["role eq null", []],
    ["created_at gt 2026-03-01T10:15:31.204518Z", [1, 4]],
    [`Created_At eq 2026-03-01T10:15:31Z or id eq ${uuid(0)}`, [0, 2]],
  ])("%s", async (filter, expected) => {
    expect(await found(await messages.fill(app, rows), filter)).toEqual(expected);
  });
});

/** What a comparison yields; null is SQL's unknown. */
type Truth = boolean | null;

interface Expression {
  readonly text: string;
  readonly of: (row: ListedRow) => Truth;
}

const not = (value: Truth): Truth => (value === null ? null : !value);
const and = (one: Truth, other: Truth): Truth =>
  one === false || other === false ? false : one === null || other === null ? null : true;

const bytes = (text: string): string => Buffer.from(text).toString("hex");

/** Filters together with what they mean, computed without a database. */
const expressions = (list: ListUnderTest): fc.Arbitrary<Expression> => {
  const literal = fc.constantFrom(...list.texts.filter((text) => text !== null), "", "zz");
  const compare = {
    eq: (c: number) => c === 0,
    ne: (c: number) => c !== 0,
    gt: (c: number) => c > 0,
    ge: (c: number) => c >= 0,
    lt: (c: number) => c < 0,
    le: (c: number) => c <= 0,
  };
  const operator = fc.constantFrom(...(Object.keys(compare) as (keyof typeof compare)[]));
  const order = (left: string, right: string): number => (left < right ? -1 : left > right ? 1 : 0);
  const quoted = (text: string): string => `'${text.replaceAll("'", "''")}'`;
  const instant = (text: string): string => text.replace(/:31Z/, ":31.000000Z");
  const leaf = fc.oneof(
    fc.tuple(operator, literal).map(
      ([op, value]): Expression => ({
        text: `${list.text} ${op} ${quoted(value)}`,
        of: ({ text }) => (text === null ? null : compare[op](order(bytes(text), bytes(value)))),
      }),
    ),
    fc.tuple(operator, fc.constantFrom(...instants)).map(
      ([op, value]): Expression => ({
        text: `${list.at} ${op} ${value}`,
        of: ({ at }) => compare[op](order(instant(at), instant(value))),
      }),
    ),
    fc.tuple(fc.constantFrom("contains", "startswith", "endswith"), literal).map(
      ([fn, value]): Expression => ({
        text: `${fn}(${list.text},${quoted(value)})`,
        of: ({ text }) =>
          text === null
            ? null
            : fn === "contains"
              ? text.includes(value)
              : fn === "startswith"
                ? text.startsWith(value)
                : text.endsWith(value),
      }),
    ),
    fc.array(literal, { minLength: 1, maxLength: 3 }).map(
      (values): Expression => ({
        text: `${list.text} in (${values.map(quoted).join(",")})`,
        of: ({ text }) => (text === null ? null : values.includes(text)),
      }),
    ),
    fc.constantFrom("eq", "ne").map(
      (op): Expression => ({
        text: `${list.text} ${op} null`,
        of: ({ text }) => (text === null) === (op === "eq"),
      }),
    ),
  );
  const { filter } = fc.letrec<{ filter: Expression }>((tie) => ({
    filter: fc.oneof(
      { maxDepth: 4, withCrossShrink: true },
      leaf,
      tie("filter").map(
        (inner): Expression => ({ text: `not (${inner.text})`, of: (row) => not(inner.of(row)) }),
      ),
      fc.tuple(tie("filter"), tie("filter")).map(
        ([one, other]): Expression => ({
          text: `(${one.text}) and (${other.text})`,
          of: (row) => and(one.of(row), other.of(row)),
        }),
      ),
      fc.tuple(tie("filter"), tie("filter")).map(
        ([one, other]): Expression => ({
          text: `(${one.text}) or (${other.text})`,
          of: (row) => not(and(not(one.of(row)), not(other.of(row)))),
        }),
      ),
    ),
  }));
  return filter;
};

describe.each(lists)("$name", (list) => {
  test("any filter finds the rows for which it is true, unknown being not true", async () => {
    const rows = rowsOf(list.texts.slice(0, 10));
    const path = await list.fill(app, rows);
    await fc.assert(
      fc.asyncProperty(expressions(list), async ({ text, of }) => {
        const expected = rows.filter((row) => of(row) === true).map(({ id }) => Number(id.at(-1)));
        expect(await found(path, text), text).toEqual(expected);
      }),
      { numRuns: 150 },
    );
  });
});
