import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { type Block, createSplitter, splitMarkdown } from "../src/markdown/blocks.ts";

const blocksOf = (text: string): readonly Block[] => splitMarkdown(text).flat();

const shape = (text: string): readonly string[] =>
  blocksOf(text).map((block) =>
    block.kind === "code" ? `${block.language}|${block.text}` : block.text.trim(),
  );

describe("a text is split", () => {
  test.each<[string, string, readonly string[]]>([
    ["paragraphs", "one\n\ntwo", ["one", "two"]],
    ["a heading begins a block", "text\n# head\nmore", ["text", "# head\nmore"]],
    [
      "a list stays together",
      "1. a\n\n2. b\n\n   more of b\n\ntext",
      ["1. a\n\n2. b\n\n   more of b", "text"],
    ],
    ["code is a block of its own", "a\n```ts\nx\n\ny\n```\nb", ["a", "ts|x\n\ny", "b"]],
    ["code that is not closed", "```js\nx", ["js|x"]],
    ["a longer fence holds a shorter one", "````md\n```\nx\n```\n````", ["md|```\nx\n```"]],
    [
      "code inside a list item belongs to it",
      "- a\n\n  ```js\n  x\n\n  y\n  ```\n\n- b",
      ["- a\n\n  ```js\n  x\n\n  y\n  ```\n\n- b"],
    ],
    ["tildes", "~~~\nx\n~~~", ["|x"]],
    ["nothing", "\n\n", []],
  ])("%s", (_name, text, expected) => {
    expect(shape(text)).toEqual(expected);
  });
});

const line = fc.constantFrom(
  "text",
  "",
  "# head",
  "- item",
  "1. one",
  "```",
  "```js",
  "~~~",
  "> quote",
  "| a | b |",
  "|---|---|",
  "    code",
  "  more",
);
const text = fc.array(line, { maxLength: 40 }).map((lines) => lines.join("\n"));

test("the parts do not depend on the pieces a text comes in", () => {
  fc.assert(
    fc.property(text, fc.array(fc.nat(9), { minLength: 1 }), (whole, sizes) => {
      const splitter = createSplitter();
      for (let at = 0, turn = 0; at < whole.length; turn += 1) {
        const size = (sizes[turn % sizes.length] ?? 0) + 1;
        splitter.push(whole.slice(at, at + size));
        splitter.parts();
        at += size;
      }
      splitter.push("\n");
      const plain = (parts: readonly (readonly Block[])[]) => JSON.stringify(parts);
      expect(plain(splitter.parts())).toBe(plain(splitMarkdown(whole)));
    }),
  );
});

test("finished parts are the same objects while the text goes on", () => {
  const splitter = createSplitter();
  splitter.push("A paragraph of some length, repeated.\n\n".repeat(200));
  const before = splitter.parts();
  splitter.push("and more");
  const after = splitter.parts();
  expect(before.length).toBeGreaterThan(2);
  for (let at = 0; at < before.length - 1; at += 1) expect(after[at]).toBe(before[at]);
});

test("ten thousand lines of anything never make one large block, and code is copied as a whole", () => {
  const lines = Array.from({ length: 10_000 }, (_, at) => `line ${at}`);
  for (const text of [
    lines.join("\n"),
    lines.map((one) => `- ${one}`).join("\n"),
    `\`\`\`\n${lines.join("\n")}\n\`\`\``,
  ]) {
    expect(Math.max(...blocksOf(text).map((block) => block.text.length))).toBeLessThan(10_000);
  }
  const code = blocksOf(`\`\`\`\n${lines.join("\n")}\n\`\`\``)[0];
  expect(code?.kind === "code" && code.whole()).toBe(lines.join("\n"));
});
