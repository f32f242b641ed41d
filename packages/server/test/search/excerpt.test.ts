import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { excerptOf } from "../../src/search/excerpt.ts";

const word = (text: string, prefix = false) => ({ word: text, prefix });

/** The excerpt with its highlights in brackets, cut by code points as clients do. */
const marked = (content: string, ...words: ReturnType<typeof word>[]): string => {
  const { text, highlights } = excerptOf(content, words);
  const points = [...text];
  let out = "";
  let at = 0;
  for (const { start, end } of highlights) {
    out += `${points.slice(at, start).join("")}[${points.slice(start, end).join("")}]`;
    at = end;
  }
  return out + points.slice(at).join("");
};

describe("an excerpt", () => {
  test.each<[string, string, ReturnType<typeof word>[], string]>([
    [
      "marks whole words in either case",
      "Pay the INVOICE, invoices wait",
      [word("invoice")],
      "Pay the [INVOICE], invoices wait",
    ],
    [
      "marks beginnings when asked for",
      "invoices invoiced",
      [word("invoice", true)],
      "[invoices] [invoiced]",
    ],
    ["marks several words", "one two three", [word("three"), word("one")], "[one] two [three]"],
    ["counts code points", "\u{1f600}\u{1f600} one", [word("one")], "\u{1f600}\u{1f600} [one]"],
    ["knows other scripts", "Счёт и счёты", [word("счёт")], "[Счёт] и счёты"],
    ["makes one line", " a\r\n\tone\u2028b ", [word("one")], "a [one] b"],
    ["leaves markup as it is: text is not HTML", "<b>one</b> & two", [word("one")], "<b>[one]</b> & two"],
    ["is the beginning without a match", "one two", [word("other")], "one two"],
    ["is empty for an empty text", "", [word("one")], ""],
    ["knows no patterns", "a.c abc", [word("a.c")], "[a.c] abc"],
  ])("%s", (_name, content, words, expected) => {
    expect(marked(content, ...words)).toBe(expected);
  });

  test("is cut at words around the first match, with an ellipsis on each side", () => {
    const filler = "lorem ipsum ".repeat(100);
    const text = marked(`${filler}needle ${filler}`, word("needle"));
    expect(text).toMatch(/^…(lorem|ipsum) .* \[needle\] .* (lorem|ipsum)…$/);
    expect(text.length).toBeLessThan(260);
  });

  test("of any text is a piece of it in which every highlight is one of the words", () => {
    const letters = fc.string({
      unit: fc.constantFrom("a", "b", "é", "\u{1f600}", "\u{20000}", " ", ".", "\n"),
      maxLength: 900,
    });
    fc.assert(
      fc.property(
        letters,
        fc.constantFrom("a", "b", "ab", "é", "\u{20000}"),
        fc.boolean(),
        (content, text, prefix) => {
          const excerpt = excerptOf(content, [word(text, prefix)]);
          expect(excerpt.text.isWellFormed()).toBe(true);
          const flat = content.replace(/\s+/gu, " ").trim();
          expect(flat).toContain(excerpt.text.replace(/^…|…$/g, ""));
          const points = [...excerpt.text];
          expect(points.length).toBeLessThanOrEqual(242);
          let after = 0;
          for (const { start, end } of excerpt.highlights) {
            expect(start).toBeGreaterThanOrEqual(after);
            const shown = points.slice(start, end).join("").toLowerCase();
            expect(prefix ? shown.startsWith(text) : shown === text).toBe(true);
            after = end;
          }
        },
      ),
      { numRuns: 500 },
    );
  });
});
