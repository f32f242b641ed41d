import { describe, expect, test } from "vitest";
import { readSummary } from "../../src/summaries/output.ts";
import { builtInInstructions, paragraphsOf, summaryPrompt } from "../../src/summaries/prompt.ts";

describe("what a model wrote (context.md §6.3 step 9)", () => {
  test.each<[string, string, string | null]>([
    ["the text inside the tags", "<analysis>thoughts</analysis>\n<summary>\nfacts\n</summary>", "facts"],
    ["without tags all of it", "  facts ", "facts"],
    [
      "without tags, but with an analysis, the rest",
      "<analysis>a</analysis>facts<analysis>b</analysis>",
      "facts",
    ],
    ["what stands around the tags is nothing", "Here it is: <summary>facts</summary> Bye.", "facts"],
    ["tags in capitals", "<ANALYSIS>a</ANALYSIS><Summary>facts</Summary>", "facts"],
    ["three and more newlines become two", "a\n\n\nb\n\nc\n\n\n\n\nd", "a\n\nb\n\nc\n\nd"],
    ["what cannot be stored is taken out", "a\0b\ud800c", "ab\ufffdc"],
    ["nothing", "", null],
    ["white space", " \n ", null],
    ["an analysis alone", "<analysis>thoughts</analysis>", null],
    ["empty tags", "<summary> </summary>", null],
    ["a summary that was cut off", "<analysis>a</analysis><summary>half of", null],
    ["an analysis that was cut off", "<analysis>half of", null],
    ["a stray end", "facts</summary>", null],
    ["an analysis inside that never ends", "<summary>facts <analysis> more</summary>", null],
  ])("%s", (_name, written, expected) => {
    expect(readSummary(written)).toBe(expected);
  });
});

describe("what a model is asked (steps 5 and 6)", () => {
  const messages = [
    { id: "1", role: "user", content: "question" },
    { id: "2", role: "system", content: "hidden" },
    { id: "3", role: "assistant", content: "answer" },
  ] as const;

  test.each<[string, string, number, string]>([
    ["a short message is whole", "12345", 5, "12345"],
    ["a longer one is cut with a mark", "123456", 5, "12345..."],
    ["characters are code points", "😀😀😀😀😀", 5, "😀😀😀😀😀"],
    ["and none is cut in two", "😀😀😀😀😀😀", 5, "😀😀😀😀😀..."],
    ["0 cuts nothing", "x".repeat(9_999), 0, "x".repeat(9_999)],
  ])("%s", (_name, content, maxChars, expected) => {
    expect(paragraphsOf([{ id: "1", role: "user", content }], maxChars)).toEqual([`User: ${expected}`]);
  });

  test("the messages in order, those of no dialogue left out, then the sections", () => {
    const { text, instructions } = summaryPrompt("DO", null, paragraphsOf(messages, 4_000));
    expect(instructions).toBe("DO");
    expect(text).toMatch(/^<conversation>\nUser: question\n\nAssistant: answer\n<\/conversation>\n\n/);
    const sections = ["Purpose", "Key information exchanged", "User requests and preferences", "Open items"];
    const places = [...sections, "Current topic"].map((section) => text.indexOf(section));
    expect(places).toEqual(places.toSorted((a, b) => a - b));
    expect(places[0]).toBeGreaterThan(0);
    expect(text).not.toContain("existing_summary");
  });

  test("the existing summary comes first, to be merged rather than to grow", () => {
    const { text } = summaryPrompt("DO", "before", ["User: now"]);
    expect(text).toMatch(/^<existing_summary>\nbefore\n<\/existing_summary>\n\n<conversation>\nUser: now\n/);
    expect(text).toMatch(/Merge both/);
    expect(text).toMatch(/drop the old details/);
  });

  test("the built-in instructions ask for both tags and forbid inventing", () => {
    for (const said of ["<analysis>", "<summary>", "Never invent"])
      expect(builtInInstructions).toContain(said);
  });
});
