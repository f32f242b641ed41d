import fc from "fast-check";
import { expect, test } from "vitest";
import { type Chunk, createChunker } from "../../src/retrieval/chunk.ts";
import type { Block } from "../../src/retrieval/extract/block.ts";

const chunksOf = (blocks: readonly Block[], size: number, overlap: number): Chunk[] => {
  const chunker = createChunker({ size, overlap });
  return [...blocks.flatMap(chunker.add), ...chunker.end()];
};

const word = fc.constantFrom("a", "bb", "ccc", "Fünf", "sechs.", "sieben!", "😀", "租约。", "x".repeat(60));
const text = fc.array(word, { maxLength: 40 }).map((words) => words.join(" "));
const document = fc
  .array(
    fc.record({ text, name: fc.constantFrom(undefined, "A", "B"), step: fc.integer({ min: 0, max: 3 }) }),
    {
      maxLength: 30,
    },
  )
  .map((blocks) => {
    let number = 1;
    return blocks.map(({ text, name, step }): Block => {
      number += step;
      return { text, place: { kind: "section", number, ...(name === undefined ? {} : { name }) } };
    });
  });
const sizes = fc
  .record({ size: fc.integer({ min: 10, max: 200 }), part: fc.double({ min: 0, max: 0.5, noNaN: true }) })
  .map(({ size, part }) => ({ size, overlap: Math.floor(size * part) }));

const bare = (text: string): string => text.replace(/\s+/gu, "");

test("for all documents: no chunk is empty, longer than allowed, or repeats more than allowed", () => {
  fc.assert(
    fc.property(document, sizes, (blocks, { size, overlap }) => {
      for (const chunk of chunksOf(blocks, size, overlap)) {
        expect(chunk.text.length).toBeLessThanOrEqual(size);
        expect(chunk.text.trim()).not.toBe("");
        expect(chunk.overlap).toBeLessThanOrEqual(overlap);
        expect(chunk.text.isWellFormed()).toBe(true);
      }
    }),
  );
});

test("for all documents: without the overlaps the chunks are the document", () => {
  fc.assert(
    fc.property(document, sizes, (blocks, { size, overlap }) => {
      const chunks = chunksOf(blocks, size, overlap);
      expect(chunks.map((chunk) => bare(chunk.text.slice(chunk.overlap))).join("")).toBe(
        bare(blocks.map((block) => block.text).join(" ")),
      );
    }),
  );
});

test("for all documents: an overlap is the end of the chunk before", () => {
  fc.assert(
    fc.property(document, sizes, (blocks, { size, overlap }) => {
      const chunks = chunksOf(blocks, size, overlap);
      for (const [at, chunk] of chunks.entries()) {
        if (chunk.overlap === 0) continue;
        expect(chunks[at - 1]?.text.endsWith(chunk.text.slice(0, chunk.overlap))).toBe(true);
      }
    }),
  );
});

test("for all documents: a chunk names the places of its text, under one heading, in order", () => {
  fc.assert(
    fc.property(document, sizes, (blocks, { size, overlap }) => {
      let before = 0;
      for (const { text, position } of chunksOf(blocks, size, overlap)) {
        expect(position.from).toBeLessThanOrEqual(position.to);
        expect(position.from).toBeGreaterThanOrEqual(before);
        before = position.from;
        const named = blocks.filter(
          ({ place }) =>
            place.number >= position.from && place.number <= position.to && place.name === position.name,
        );
        expect(bare(named.map((block) => block.text).join(""))).toContain(bare(text));
      }
    }),
  );
});

test("a chunk breaks between sentences, and the next begins with the last of them", () => {
  const sentences = ["The first one is here.", "The second one follows.", "The third one ends it."];
  const chunks = chunksOf([{ text: sentences.join(" "), place: { kind: "line", number: 1 } }], 50, 25);
  expect(chunks.map((chunk) => chunk.text)).toEqual([
    `${sentences[0]} ${sentences[1]}`,
    `${sentences[1]} ${sentences[2]}`,
  ]);
});

test("slides are never in one chunk", () => {
  const slide = (number: number): Block => ({ text: `S${number}`, place: { kind: "slide", number } });
  expect(chunksOf([slide(1), slide(2), slide(2)], 100, 20).map((chunk) => chunk.text)).toEqual([
    "S1",
    "S2\nS2",
  ]);
});
