import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { cleanFilename, extensionOf, truncateFilename } from "../../src/attachments/filename.ts";

const a = (n: number): string => "a".repeat(n);
const smile = (n: number): string => "\u{1f600}".repeat(n);

describe("truncating to 255 code points (attachments.md §4)", () => {
  test.each<[string, string, string]>([
    ["the stem, keeping the extension", `${a(260)}.pdf`, `${a(251)}.pdf`],
    ["the stem before the last extension only", `x${a(260)}.tar.gz`, `x${a(251)}.gz`],
    ["code points, not UTF-16 units", `${smile(260)}.pdf`, `${smile(251)}.pdf`],
    ["a dotfile to its first 255", `.${"x".repeat(300)}`, `.${"x".repeat(254)}`],
    ["a name with a trailing dot to its first 255", `${a(300)}.`, a(255)],
    ["a name without a dot to its first 255", a(300), a(255)],
    ["an endless extension to the last 255", `b.${a(300)}`, a(255)],
    ["an extension that alone reaches 255 to the last 255", `bb.${a(254)}`, `.${a(254)}`],
    ["nothing of an empty name", "", ""],
    ["nothing of a short name", "plan.pdf", "plan.pdf"],
    ["nothing of 255 characters", `${a(251)}.pdf`, `${a(251)}.pdf`],
    ["nothing of 255 emoji", smile(255), smile(255)],
  ])("%s", (_name, given, expected) => {
    expect(truncateFilename(given)).toBe(expected);
  });

  test("never exceeds 255, never splits a character, and keeps the last extension where one fits", () => {
    fc.assert(
      fc.property(fc.string({ unit: "grapheme", maxLength: 600 }), (name) => {
        const cut = truncateFilename(name);
        expect([...cut].length).toBeLessThanOrEqual(255);
        expect(cut.isWellFormed()).toBe(name.isWellFormed());
        if ([...name].length <= 255) expect(cut).toBe(name);
      }),
    );
    fc.assert(
      fc.property(
        fc.string({ minLength: 256, maxLength: 400 }).filter((stem) => !stem.endsWith(".")),
        fc.string({ minLength: 1, maxLength: 50 }).filter((text) => !text.includes(".")),
        (stem, extension) => {
          expect(truncateFilename(`${stem}.${extension}`).endsWith(`.${extension}`)).toBe(true);
        },
      ),
    );
  });
});

describe("the name that is stored (attachments.md §4)", () => {
  test.each<[string, string | null, string]>([
    ["missing", null, "upload"],
    ["empty", "", "upload"],
    ["plain", "plan.pdf", "plan.pdf"],
    ["with directories", "../../etc/passwd", "passwd"],
    ["with Windows directories", "C:\\Users\\ann\\plan.pdf", "plan.pdf"],
    ["with both", "a\\b/c.txt", "c.txt"],
    ["only directories", "a/b/", "upload"],
    ["only separators", "///\\\\", "upload"],
    ["with U+0000", "pl\0an.pdf\0", "plan.pdf"],
    ["with control characters", "pl\r\nan\u007f\u0085.pdf", "plan.pdf"],
    ["with a bidi override", "gpj.\u202efdp.exe", "gpj.fdp.exe"],
    ["with every bidi control", "\u202a\u202b\u202c\u202d\u202ea\u2066\u2067\u2068\u2069", "a"],
    ["only controls", "\u0001\u202e", "upload"],
    ["a separator behind a control", "a\u0000/\u0000b.txt", "b.txt"],
    ["decomposed", "re\u0301sume\u0301.pdf", "r\u00e9sum\u00e9.pdf"],
    ["with a lone surrogate", "a\ud800.pdf", "a\ufffd.pdf"],
    ["with 10,000 characters", `${a(10_000)}.pdf`, `${a(251)}.pdf`],
    ["with spaces and quotes", ' my "plan" .pdf', ' my "plan" .pdf'],
  ])("%s", (_name, given, expected) => {
    expect(cleanFilename(given)).toBe(expected);
  });

  test("is never empty, never a path, has no control character, and cleaning it again changes nothing", () => {
    const pieces = fc.oneof(
      fc.string({ unit: "binary" }),
      fc.constantFrom("/", "\\", "..", "\0", "\u202e", "e\u0301", "."),
    );
    fc.assert(
      fc.property(
        fc.array(pieces, { maxLength: 40 }).map((parts) => parts.join("")),
        (given) => {
          const name = cleanFilename(given);
          expect(name).not.toBe("");
          expect(name).not.toMatch(/[/\\\p{Cc}\u202a-\u202e\u2066-\u2069]/u);
          expect([...name].length).toBeLessThanOrEqual(255);
          expect(name.isWellFormed()).toBe(true);
          expect(cleanFilename(name)).toBe(name);
        },
      ),
      { numRuns: 500 },
    );
  });
});

test.each<[string, string | null]>([
  ["plan.PDF", "pdf"],
  ["a.tar.gz", "gz"],
  ["plan", null],
  ["plan.", ""],
  [".md", "md"],
])("the extension of %s is %s", (name, extension) => {
  expect(extensionOf(name)).toBe(extension);
});
