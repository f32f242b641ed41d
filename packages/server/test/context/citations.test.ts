import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { type CitableFile, mapCitations } from "../../src/context/citations.ts";
import type { ProviderCitation } from "../../src/providers/contract.ts";

const attachment = "11111111-1111-4111-8111-111111111111";
const files = new Map<string, CitableFile>([
  ["file-a", { attachmentId: attachment, filename: "a.pdf" }],
  ["file-gone", { attachmentId: "22222222-2222-4222-8222-222222222222", filename: "b.pdf", deleted: true }],
]);

const web = (change: Partial<ProviderCitation> = {}): ProviderCitation => ({
  source: "web",
  url: "https://example.org/a",
  title: "A",
  ...change,
});
const file = (change: Partial<ProviderCitation> = {}): ProviderCitation => ({
  source: "file",
  providerFileId: "file-a",
  ...change,
});
const map = (citations: readonly ProviderCitation[], content = "") => mapCitations(citations, content, files);
const only = (citation: ProviderCitation, content = "") => map([citation], content).items[0];

test("no citations, no items", () => {
  expect(map([])).toEqual({ items: [], dropped: [] });
});

describe("files", () => {
  test("become our attachment under our name", () => {
    const citation = file({ title: "the provider's title", url: "https://files.internal/file-a" });
    expect(map([citation])).toEqual({
      items: [{ source: "file", title: "a.pdf", attachment_id: attachment, snippet: "" }],
      dropped: [],
    });
  });

  test.each<[string, ProviderCitation, string]>([
    ["of another chat", file({ providerFileId: "file-other" }), "unknown"],
    ["without an id", { source: "file", title: "x" }, "unknown"],
    ["deleted since", file({ providerFileId: "file-gone" }), "deleted"],
  ])("%s are dropped and counted", (_, citation, reason) => {
    expect(map([citation])).toEqual({ items: [], dropped: [reason] });
  });

  test("never show the provider's id, even when the annotation or the answer quotes it", () => {
    const quoted = [file({ snippet: "see file-a" }), file({ span: { start: 0, end: 8 } })];
    const { items } = map(quoted, "(file-a)");
    expect(items.map((item) => item.snippet)).toEqual(["see ", "()"]);
  });
});

describe("web", () => {
  test.each([
    ["as it is", "https://example.org/a?b=c", "https://example.org/a?b=c"],
    ["http too", "http://example.org/", "http://example.org/"],
    ["without credentials", "https://user:secret@example.org/a", "https://example.org/a"],
    ["without a bare user", "https://user@example.org/a", "https://example.org/a"],
    ["without its fragment", "https://example.org/a#:~:text=x", "https://example.org/a"],
    ["port kept", "https://example.org:8443/a", "https://example.org:8443/a"],
    ["scheme in capitals", "HTTPS://EXAMPLE.org/A", "https://example.org/A"],
    ["tabs and line breaks a browser ignores", " ht\ttps://exa\nmple.org/a\r\n", "https://example.org/a"],
    ["backslashes a browser turns", "https:\\\\example.org\\a", "https://example.org/a"],
    ["a host in look-alike letters is shown as such", "https://exаmple.org/", "https://xn--exmple-4nf.org/"],
    ["quotes and tags are escaped", 'https://example.org/"><b>', "https://example.org/%22%3E%3Cb%3E"],
    ["a stray percent stays", "https://example.org/100%", "https://example.org/100%"],
    ["half a character", "https://example.org/\ud800", "https://example.org/%EF%BF%BD"],
  ])("%s", (_, url, expected) => {
    expect(map([web({ url })])).toEqual({
      items: [{ source: "web", title: "A", url: expected, snippet: "" }],
      dropped: [],
    });
  });

  test.each([
    "",
    "example.org",
    "/a",
    "//example.org/a",
    "javascript:alert(1)",
    "java\nscript:alert(1)",
    "  JavaScript:alert(1)//https://example.org",
    "data:text/html,<script>1</script>",
    "vbscript:x",
    "file:///etc/passwd",
    "ftp://example.org/",
    "blob:https://example.org/1",
    "view-source:https://example.org",
    "sandbox:/mnt/data/x",
    "https://",
    "https://exa mple.org/",
    `https://${"a.".repeat(1_100)}org/`,
  ])("%j is no link", (url) => {
    expect(map([web({ url })])).toEqual({ items: [], dropped: ["invalid"] });
  });

  test("without a URL it is dropped; a file id does not help", () => {
    expect(map([{ source: "web", title: "x", providerFileId: "file-a" }]).dropped).toEqual(["invalid"]);
  });

  test("long URLs are cut, but not inside an escape", () => {
    const base = "https://example.org/";
    const fill = (length: number) => base + "a".repeat(length - base.length);
    expect(only(web({ url: fill(2_048) }))?.url).toBe(fill(2_048));
    expect(only(web({ url: fill(2_049) }))?.url).toBe(fill(2_048));
    expect(only(web({ url: `${fill(2_045)}%C3%A9` }))?.url).toBe(`${fill(2_045)}%C3`);
    expect(only(web({ url: `${fill(2_046)}%C3%A9` }))?.url).toBe(fill(2_046));
    expect(only(web({ url: `${fill(2_047)}%C3%A9` }))?.url).toBe(fill(2_047));
  });

  test("titles are cut at 512 code points", () => {
    expect(only(web({ title: "t".repeat(513) }))?.title).toBe("t".repeat(512));
    expect(only(web({ title: "😀".repeat(512) }))?.title).toBe("😀".repeat(512));
    expect(only(web({ title: "😀".repeat(513) }))?.title).toBe("😀".repeat(512));
  });

  test("what PostgreSQL cannot store as JSON is taken out", () => {
    expect(only(web({ title: "a\0b\ud800", snippet: "\0x\udc00" }))).toMatchObject({
      title: "ab\ufffd",
      snippet: "x\ufffd",
    });
  });

  test("no title is an empty one", () => {
    expect(only({ source: "web", url: "https://example.org/" })?.title).toBe("");
  });
});

describe("span and snippet", () => {
  test.each<[string, string, ProviderCitation["span"], string | undefined, string]>([
    ["the text in the range", "hello world", { start: 6, end: 11 }, undefined, "world"],
    ["code points, not UTF-16 units", "😀😀 ok 👍!", { start: 3, end: 5 }, undefined, "ok"],
    ["an emoji is one", "a😀b", { start: 1, end: 2 }, undefined, "😀"],
    ["a combined emoji is several", "👩‍💻x", { start: 0, end: 3 }, undefined, "👩‍💻"],
    ["up to the end", "😀é", { start: 0, end: 2 }, undefined, "😀é"],
    ["the annotation's text goes first", "hello", { start: 0, end: 5 }, "quoted", "quoted"],
    ["an empty annotation text is none", "hello", { start: 0, end: 5 }, "", "hello"],
  ])("%s", (_, content, span, snippet, expected) => {
    const citation = web({ ...(span ? { span } : {}), ...(snippet === undefined ? {} : { snippet }) });
    expect(only(citation, content)).toMatchObject({ snippet: expected, span });
  });

  test.each<[string, { start: number; end: number }]>([
    ["beyond the end", { start: 0, end: 4 }],
    ["beyond the end in code points", { start: 0, end: 6 }],
    ["empty", { start: 1, end: 1 }],
    ["reversed", { start: 2, end: 1 }],
    ["negative", { start: -1, end: 2 }],
    ["no integer", { start: 0.5, end: 2 }],
    ["no number", { start: Number.NaN, end: Number.NaN }],
    ["infinite", { start: 0, end: Number.POSITIVE_INFINITY }],
  ])("a span that is %s is left out, the citation stays", (_, span) => {
    expect(only(web({ span }), "😀😀😀")).toEqual({
      source: "web",
      title: "A",
      url: "https://example.org/a",
      snippet: "",
    });
  });

  test("snippets are cut at 1 000 code points", () => {
    expect(only(web({ snippet: "s".repeat(1_001) }))?.snippet).toBe("s".repeat(1_000));
    expect(only(web({ span: { start: 0, end: 1_001 } }), "😀".repeat(1_001))).toMatchObject({
      snippet: "😀".repeat(1_000),
      span: { start: 0, end: 1_001 },
    });
  });
});

describe("many", () => {
  test("order is kept and exact duplicates collapse", () => {
    const span = { start: 0, end: 1 };
    const { items, dropped } = map(
      [
        web({ url: "https://b.org/" }),
        file(),
        web({ url: "https://b.org/#top", title: "other", snippet: "other" }),
        file({ span }),
        file({ span: { start: 0, end: 1 } }),
        file({ span: { start: 5, end: 9 } }),
        web({ url: "https://b.org/", span }),
      ],
      "ab",
    );
    expect(dropped).toEqual([]);
    expect(items.map((item) => [item.url ?? item.attachment_id, item.title, item.span])).toEqual([
      ["https://b.org/", "A", undefined],
      [attachment, "a.pdf", undefined],
      [attachment, "a.pdf", span],
      ["https://b.org/", "A", span],
    ]);
  });

  test("the first 50 distinct ones are kept, all dropped ones counted", () => {
    const urls = Array.from({ length: 60 }, (_, index) => `https://example.org/${Math.floor(index / 1.1)}`);
    const { items, dropped } = map([
      ...urls.map((url) => web({ url })),
      web({ url: "x" }),
      file({ providerFileId: "?" }),
    ]);
    expect(items.map((item) => item.url)).toEqual([...new Set(urls)].slice(0, 50));
    expect(dropped).toEqual(["invalid", "unknown"]);
  });

  test("whatever the provider sends, items keep their limits and show no id of his (§12.9)", () => {
    const hostile = fc.oneof(
      fc.string({ unit: "binary", maxLength: 60 }),
      fc.constantFrom("file-a", "😀".repeat(1_500), "\ud83d", "\0", "https://u:p@x.org/#f"),
      fc.webUrl({ withFragments: true, withQueryParameters: true, size: "large" }),
    );
    const citations: fc.Arbitrary<ProviderCitation[]> = fc.array(
      fc.record(
        {
          source: fc.constantFrom("file", "web"),
          title: hostile,
          url: hostile,
          providerFileId: fc.constantFrom("file-a", "file-gone", "file-other"),
          snippet: hostile,
          span: fc.record({ start: fc.integer({ min: -2, max: 9 }), end: fc.integer({ min: -2, max: 9 }) }),
        },
        { requiredKeys: ["source"] },
      ),
      { maxLength: 80 },
    );
    const content = fc.string({ unit: "grapheme", maxLength: 8 });
    fc.assert(
      fc.property(citations, content, (list, answer) => {
        const { items, dropped } = map(list, answer);
        expect(items.length + dropped.length).toBeLessThanOrEqual(list.length);
        expect(items.length).toBeLessThanOrEqual(50);
        for (const item of items) {
          expect(item.source === "file").toBe(item.attachment_id !== undefined);
          expect(item.source === "web").toBe(item.url !== undefined);
          expect(item.attachment_id ?? attachment).toBe(attachment);
          expect(item.url?.length ?? 0).toBeLessThanOrEqual(2_048);
          expect(item.url ?? "https:").toMatch(/^https?:/);
          expect(item.url ?? "").not.toContain("#");
          expect(Array.from(item.title).length).toBeLessThanOrEqual(512);
          expect(Array.from(item.snippet).length).toBeLessThanOrEqual(1_000);
          expect((item.title + item.snippet).isWellFormed()).toBe(true);
          if (item.source === "file") expect(JSON.stringify(item)).not.toContain("file-a");
          if (item.span) expect(item.span.end).toBeLessThanOrEqual(Array.from(answer).length);
        }
        expect(mapCitations(list, answer, new Map()).items.every((item) => item.source === "web")).toBe(true);
      }),
    );
  });
});
