import { strFromU8, unzipSync } from "fflate";
import { describe, expect, test } from "vitest";
import { placeLabel } from "../../src/retrieval/excerpts.ts";
import { bookOf, docx, paragraph, pdf, pptx, xlsx, zip } from "./documents.ts";
import { extracted, mime } from "./support.ts";

/** Each chunk as `place: text`. */
const readable = async (contentType: string, file: Uint8Array | string): Promise<string[]> =>
  (await extracted(contentType, file)).stored.map((chunk) => `${placeLabel(chunk)}: ${chunk.content}`);

describe("text with its place", () => {
  test("PDF: lines become paragraphs, divided words are whole, pages are counted", async () => {
    const file = pdf([
      [
        "The contract ends on the thirty-",
        "first of March, with a can-",
        "cellation period.",
        "",
        "",
        "Second.",
      ],
      ["On the next page (really)."],
    ]);
    expect(await readable(mime.pdf, file)).toEqual([
      "pages 1–2: The contract ends on the thirtyfirst of March, with a cancellation period.\nSecond.\nOn the next page (really).",
    ]);
  });

  test("DOCX: headings by their style, tables by row, notes last, nothing deleted or twice", async () => {
    const row = (...cells: string[]): string =>
      `<w:tr>${cells.map((text) => `<w:tc>${paragraph(text)}</w:tc>`).join("")}</w:tr>`;
    const file = docx(
      [
        paragraph("Before any heading"),
        paragraph("Fees", "berschrift1"),
        paragraph("They are < 5 & paid yearly."),
        `<w:tbl>${row("Item", "Price")}${row("Room", "12 €")}</w:tbl>`,
        "<w:p><w:del><w:r><w:delText>gone</w:delText></w:r></w:del></w:p>",
        "<w:p><mc:AlternateContent><mc:Choice><w:r><w:t>once</w:t></w:r></mc:Choice><mc:Fallback><w:r><w:t>twice</w:t></w:r></mc:Fallback></mc:AlternateContent></w:p>",
      ].join(""),
      { "word/footnotes.xml": `<w:footnotes>${paragraph("A note")}</w:footnotes>` },
    );
    expect(await readable(mime.docx, file)).toEqual([
      "paragraph 1: Before any heading",
      '"Fees", paragraphs 2–6: Fees\nThey are < 5 & paid yearly.\nItem | Price\nRoom | 12 €\nonce',
      "paragraph 7: A note",
    ]);
  });

  test("PPTX: slides in the order shown, with their notes, without the slide number", async () => {
    const file = pptx([{ text: "First", notes: "Say hello" }, { text: "Second" }]);
    expect(await readable(mime.pptx, file)).toEqual(["slide 1: First\nSay hello", "slide 2: Second"]);
  });

  test("XLSX: rows of a sheet, dates as dates", async () => {
    const file = xlsx("Q1 & Q2", [
      ["Name", "Due", "Amount"],
      ["Rent", new Date("2026-03-31T00:00:00Z"), 1200.5],
    ]);
    expect(await readable(mime.xlsx, file)).toEqual([
      'sheet "Q1 & Q2", rows 1–2: Name | Due | Amount\nRent | 2026-03-31 | 1200.5',
    ]);
  });

  test.each(["99999999999", "1048577", "0", "-3", "x"])("XLSX: a row cannot be number %s", async (number) => {
    const parts = unzipSync(xlsx("Q1", [["Name"], ["Rent"]]));
    const file = zip(
      Object.fromEntries(
        Object.entries(parts).map(([path, bytes]) => [
          path,
          strFromU8(bytes).replace('<row r="2">', `<row r="${number}">`),
        ]),
      ),
    );
    expect(await readable(mime.xlsx, file)).toEqual(['sheet "Q1", rows 1–2: Name\nRent']);
  });

  test("HTML: what is visible, under its heading", async () => {
    const file = `<!doctype html><head><title>T</title><style>p{}</style><script>alert(1)</script></head>
      <h1>Terms</h1><p>One <b>bold</b>word &amp; more<p>Two<script>hidden()</script>
      <table><tr><td>a</td><td>b</td></tr></table><noscript>no</noscript><img alt="A chart">`;
    expect(await readable(mime.html, file)).toEqual([
      "paragraph 1: T",
      '"Terms", paragraphs 2–6: Terms\nOne boldword & more\nTwo\na | b\nA chart',
    ]);
  });

  test("Markdown: lines under their heading; a # in a fence is code", async () => {
    const file = "intro\n# One #\ntext\n```sh\n# comment\n```\n## Two\nend\n";
    expect(await readable(mime.md, file)).toEqual([
      "line 1: intro",
      '"One", lines 2–6: # One #\ntext\n```sh\n# comment\n```',
      '"Two", lines 7–8: ## Two\nend',
    ]);
  });

  test.each(["text/plain", "application/json", "text/x-python", "text/typescript", "text/x-sql"])(
    "%s: lines as they are",
    async (contentType) => {
      expect(await readable(contentType, "a:\r\n  b\n\nc\rd")).toEqual(["lines 1–5: a:\n  b\nc\nd"]);
    },
  );
});

test.each([
  ["U+0000 is left out", Buffer.from("a\0b"), "ab"],
  ["invalid UTF-8 is replaced", Buffer.from([0x61, 0xff, 0xc3, 0x28, 0x62]), "a\ufffd\ufffd(b"],
  ["UTF-16 is read by its byte order mark", Buffer.from("\ufeffgrün", "utf16le"), "grün"],
  ["half a character is replaced", Buffer.from("\ufeff\ud800x", "utf16le"), "\ufffdx"],
])("%s", async (_, file, text) => {
  expect((await extracted(mime.txt, file)).stored[0]?.content).toBe(text);
});

test.each([
  ["latin1", '<meta charset="iso-8859-1"><p>gr\xfcn', "grün"],
  ["one that does not exist", '<meta charset="x-nothing"><p>plain', "plain"],
])("a page may name its encoding: %s", async (_, page, text) => {
  const { stored } = await extracted(mime.html, Buffer.from(page, "latin1"));
  expect(stored[0]?.content).toBe(text);
});

test("characters are whole where the file is read in pieces", async () => {
  const text = "ä€😀 ".repeat(40_000);
  const { stored } = await extracted(mime.txt, text, { maxCharacters: 1_000_000 });
  expect(stored.some(({ content }) => content.includes("\ufffd"))).toBe(false);
});

test("a book of 300 pages is read whole", async () => {
  const { stored, truncated } = await extracted(mime.pdf, bookOf(300));
  expect(truncated).toBe(false);
  expect(stored.at(-1)).toMatchObject({ kind: "page", to: 300 });
  expect(stored.map(({ no }) => no)).toEqual(stored.map((_, at) => at));
});

test("of a longer text the beginning is kept", async () => {
  const { stored, truncated } = await extracted(mime.txt, "word ".repeat(10_000), { maxCharacters: 2_000 });
  expect(truncated).toBe(true);
  expect(stored.map(({ content }) => content).join("").length).toBeLessThanOrEqual(2_000 + 2 * 150);
});
