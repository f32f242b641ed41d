import { describe, expect, test } from "vitest";
import { planQuery, readQuery } from "../../src/search/query.ts";
import { everything, nearStretch } from "../../src/search/stretch.ts";

describe("the text of a search", () => {
  test.each<[string, string, boolean]>([
    ["one two", "one two", false],
    ["  one\ttwo ", "one two", false],
    ['"one two" three', '"one two" three', false],
    ['-"one, two" -three', '-"one two" -three', false],
    ["src/app.ts", '"src app ts"', false],
    ["well-known", '"well known"', false],
    ["-well-known", '-"well known"', false],
    ["--one", '"one"', false],
    ["don't", '"don t"', false],
    ["one or two", "one or two", false],
    ["“one two”", '"one" "two"', false],
    ["inv*", '"inv"', true],
    ["one inv* ", 'one "inv"', true],
    ["-inv*", '-"inv"', true],
    ["in*", '"in"', false],
    ["a.inv*", '"a inv"', false],
    ["inv* one", '"inv" one', false],
    ['"one two*"', '"one two"', false],
    ['"one two', "one two", false],
    ["***", "", false],
    ["\u{20000}\u{20001}\u{20002}*", '"\u{20000}\u{20001}\u{20002}"', true],
  ])("%j is asked as %j", (q, text, prefix) => {
    const asked = readQuery(q);
    expect(asked.text).toBe(text);
    expect(asked.prefix).toBe(prefix);
  });

  test("may have 256 characters, whatever their size", () => {
    expect(readQuery("\u{1f600}".repeat(256)).text).toBe("");
    expect(() => readQuery("x".repeat(257))).toThrow("256");
  });
});

describe("a parsed query", () => {
  test.each<[string, string]>([
    ["", ""],
    ["!'a'", "T"],
    ["'a' | !'b'", "T"],
  ])("%s names no word to find", (query, findable) => {
    expect(planQuery(query, findable)).toBeNull();
  });

  test("without a phrase is asked of the index as it is", () => {
    expect(planQuery("'a' & !'b' | 'c':*", "'a' | 'c':*")).toEqual({
      query: "'a' & !'b' | 'c':*",
      indexed: "'a' & !'b' | 'c':*",
      phrase: null,
      words: [
        { word: "a", prefix: false },
        { word: "c", prefix: true },
      ],
    });
  });

  test("with a phrase is asked by its words, and what is found is looked at", () => {
    const plan = planQuery("'x' & 'a' <-> 'b' <-> 'c':*", "'x' & 'a' <-> 'b' <-> 'c':*");
    expect(plan?.indexed).toBe("'x' & 'a' & 'b' & 'c':*");
    expect(plan?.phrase).toMatch(/^a\[.*\]\+b\[.*\]\+c$/);
  });

  test("with alternatives or odd words is looked at without a pattern, and with an exclusion by the index alone", () => {
    expect(planQuery("'a' <-> 'b' | 'c'", "'a' <-> 'b' | 'c'")?.phrase).toBe("");
    expect(planQuery("'a' <-> 'b.c'", "'a' <-> 'b.c'")?.phrase).toBe("");
    const excluding = "'x' & !( 'a' <-> 'b' )";
    expect(planQuery(excluding, "'x'")).toMatchObject({ indexed: excluding, phrase: null });
  });
});

describe("where a search begins to look", () => {
  const day = 86_400_000;
  const at = (period: number, days: number): string => new Date(period * 30 * day + days * day).toISOString();
  const cursor = (direction: "next" | "prev", time: string) => ({
    direction,
    inclusive: false,
    keys: [time, "id"],
  });

  test("without a cursor: the last 30 to 60 days and what is stored meanwhile", () => {
    expect(nearStretch(null, at(690, 3))).toEqual({
      periods: [689, 690, 691],
      from: at(689, 0),
      until: at(692, 0),
    });
  });

  test("forwards: the 30 to 60 days before the cursor; backwards: those after it", () => {
    expect(nearStretch(cursor("next", at(600, 29)), at(690, 3))).toEqual({
      periods: [599, 600],
      from: at(599, 0),
      until: "infinity",
    });
    expect(nearStretch(cursor("prev", at(600, 29)), at(690, 3))).toEqual({
      periods: [600, 601],
      from: "-infinity",
      until: at(602, 0),
    });
  });

  test("a forged cursor of any year is no harm", () => {
    for (const year of ["0001", "1969", "1970", "9999"]) {
      for (const direction of ["next", "prev"] as const)
        expect(
          nearStretch(cursor(direction, `${year}-12-31T23:59:59.999999Z`), at(690, 3)).periods,
        ).toHaveLength(2);
    }
    expect(everything.periods).toEqual([0]);
  });
});
