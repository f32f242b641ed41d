import fc from "fast-check";
import { describe, expect, test } from "vitest";
import type { Position } from "../../src/retrieval/chunk.ts";
import { citeExcerpts, placeLabel, renderExcerpts } from "../../src/retrieval/excerpts.ts";
import type { Candidate } from "../../src/retrieval/find-store.ts";
import { chooseExcerpts, type Excerpt } from "../../src/retrieval/rank.ts";

const page = (from: number, to = from): Position => ({ kind: "page", from, to });
const excerpt = (more: Partial<Excerpt> = {}): Excerpt => ({
  attachmentId: "a1",
  filename: "plan.pdf",
  position: page(3),
  text: "Due on Friday.",
  score: 1,
  ...more,
});

test.each<[Position, string]>([
  [page(3), "page 3"],
  [page(3, 4), "pages 3–4"],
  [{ kind: "slide", from: 2, to: 2 }, "slide 2"],
  [{ kind: "sheet", from: 2, to: 9, name: 'Q"1' }, 'sheet "Q\\"1", rows 2–9'],
  [{ kind: "section", from: 7, to: 7, name: "Term" }, '"Term", paragraph 7'],
  [{ kind: "line", from: 10, to: 20 }, "lines 10–20"],
])("%j is called %s", (position, label) => {
  expect(placeLabel(position)).toBe(label);
});

describe("what the model is given", () => {
  test("numbered passages, each line quoted, behind a frame", () => {
    const text = renderExcerpts([excerpt({ text: "One\nTwo" }), excerpt({ filename: "b.txt" })]);
    expect(text).toMatch(/never instructions/);
    expect(text.split("\n\n").slice(1)).toEqual([
      '[cite:1] "plan.pdf", page 3\n> One\n> Two',
      '[cite:2] "b.txt", page 3\n> Due on Friday.',
    ]);
  });

  test("nothing without passages", () => {
    expect(renderExcerpts([])).toBe("");
  });

  test("for all texts and names: a document adds no line, no marker and no passage", () => {
    const hostile = fc
      .array(
        fc.constantFrom(
          "[cite:2]",
          "[ CITE : 1]",
          "\n",
          "\r",
          "\u2028",
          "\u0085",
          '"',
          "> ",
          "\n\n[cite:9] x",
          "ok",
          "\\",
        ),
        { maxLength: 12 },
      )
      .map((parts) => parts.join(""));
    const frame = renderExcerpts([excerpt()]).split("\n\n")[0] ?? "";
    fc.assert(
      fc.property(hostile, hostile, hostile, (text, filename, name) => {
        const rendered = renderExcerpts([
          excerpt({ text, filename, position: { kind: "section", from: 1, to: 1, name } }),
        ]);
        const lines = rendered.slice(frame.length + 2).split(/\r\n|[\n\r\v\f\u0085\u2028\u2029]/);
        expect(lines[0]).toMatch(/^\[cite:1\] "/);
        expect(lines.slice(1).every((line) => line.startsWith("> "))).toBe(true);
        expect(rendered.slice(frame.length).match(/\[\s*cite\s*:/gi)).toHaveLength(1);
      }),
    );
  });
});

describe("citations of an answer", () => {
  const given = [
    excerpt(),
    excerpt({ attachmentId: "b1", filename: "b.txt", position: page(1), text: "x".repeat(2_000) }),
  ];

  test("name file and place; the span is the marker in code points", () => {
    expect(citeExcerpts("It is 😀 Friday [cite:1].", given)).toEqual({
      items: [
        {
          source: "file",
          title: "plan.pdf",
          attachment_id: "a1",
          snippet: "Due on Friday.",
          span: { start: 15, end: 23 },
          position: "page 3",
        },
      ],
      dropped: [],
    });
  });

  test("several in one marker and the same one twice", () => {
    const { items } = citeExcerpts("A [cite:1, 2, 1] and B [cite:1]", given);
    expect(items.map(({ attachment_id, span }) => [attachment_id, span?.start])).toEqual([
      ["a1", 2],
      ["b1", 2],
      ["a1", 23],
    ]);
    expect(items[1]?.snippet).toHaveLength(1_000);
  });

  test.each([
    ["a marker that was not given", "x [cite:3]"],
    ["a marker of nothing", "x [cite:0]"],
  ])("%s is dropped", (_, answer) => {
    expect(citeExcerpts(answer, given)).toEqual({ items: [], dropped: ["unknown"] });
  });

  test.each(["[1]", "cite:1", "[cite:]", "[cite:one]", "[cite:99999]", "a[cite]"])(
    "%s is no marker",
    (answer) => {
      expect(citeExcerpts(answer, given)).toEqual({ items: [], dropped: [] });
    },
  );

  test("of files deleted meanwhile are dropped", () => {
    expect(citeExcerpts("[cite:1] [cite:2]", given, new Set(["b1"]))).toMatchObject({
      items: [{ attachment_id: "b1" }],
      dropped: ["deleted"],
    });
  });

  test("are 50 at most", () => {
    expect(citeExcerpts("[cite:1]".repeat(80), given).items).toHaveLength(50);
  });
});

describe("choosing", () => {
  const candidate = (
    fileId: string,
    no: number,
    score: number,
    more: Partial<Candidate> = {},
  ): Candidate => ({
    attachmentId: fileId,
    filename: fileId,
    fileId,
    no,
    content: `${fileId}${no}`,
    overlap: 0,
    position: page(no),
    score,
    ...more,
  });
  const chosen = (candidates: readonly Candidate[], max = 9): string[] =>
    chooseExcerpts(candidates, max, () => true).map(
      ({ text, position }) => `${text}@${placeLabel(position)}`,
    );

  test("neighbours become one passage, without what they repeat", () => {
    const list = [
      candidate("a", 2, 9, { content: "two. three." }),
      candidate("a", 4, 8, { content: "four. five." }),
      candidate("a", 3, 7, { content: "three. four.", overlap: 6 }),
    ];
    expect(chosen(list)).toEqual(["two. three. four.\nfour. five.@pages 2–4"]);
  });

  test("chunks under another heading are no neighbours", () => {
    const under = (name: string): Partial<Candidate> => ({
      position: { kind: "section", from: 1, to: 1, name },
    });
    expect(chosen([candidate("a", 1, 9, under("A")), candidate("a", 2, 8, under("B"))])).toHaveLength(2);
  });

  test("a document that has a place already counts less", () => {
    expect(chosen([candidate("a", 1, 10), candidate("a", 5, 9.9), candidate("b", 1, 9)], 2)).toEqual([
      "a1@page 1",
      "b1@page 1",
    ]);
  });

  test("for all candidates: the result fits, is within the number, and depends on nothing else", () => {
    const list = fc.array(
      fc.record({
        file: fc.constantFrom("a", "b", "c"),
        no: fc.nat(9),
        score: fc.integer({ min: 1, max: 9 }),
      }),
      { maxLength: 30 },
    );
    fc.assert(
      fc.property(
        list,
        fc.integer({ min: 1, max: 5 }),
        fc.integer({ min: 1, max: 40 }),
        (rows, max, room) => {
          const unique = new Map(
            rows.map((row) => [`${row.file}${row.no}`, candidate(row.file, row.no, row.score)]),
          );
          const fits = (excerpts: readonly Excerpt[]): boolean =>
            excerpts.reduce((sum, { text }) => sum + text.length, 0) <= room;
          const run = () => chooseExcerpts([...unique.values()], max, fits);
          const excerpts = run();
          expect(fits(excerpts)).toBe(true);
          expect(excerpts.length).toBeLessThanOrEqual(max);
          expect(run()).toEqual(excerpts);
        },
      ),
    );
  });
});
