import { randomBytes } from "node:crypto";
import { describe, expect, test } from "vitest";
import { ExtractionError, type ExtractionFailure } from "../../src/retrieval/extract/block.ts";
import { extractionLimits } from "../../src/retrieval/extract/limits.ts";
import { runExtraction } from "../../src/retrieval/extract/run.ts";
import { docx, encryptedPdf, paragraph, pdf, pdfBomb, zip } from "./documents.ts";
import { extracted, inPieces, mime } from "./support.ts";

const failure = async (...given: Parameters<typeof extracted>): Promise<ExtractionFailure | "none"> => {
  try {
    await extracted(...given);
    return "none";
  } catch (error) {
    if (error instanceof ExtractionError) return error.failure;
    throw error;
  }
};

const mib = 1_048_576;
const ole = Uint8Array.of(0xd0, 0xcf, 0x11, 0xe0, 0xa1, 0xb1, 0x1a, 0xe1, ...new Array<number>(600).fill(0));

/** The directory of an archive says another size than the entry has. */
const lying = (file: Uint8Array, declared: number): Uint8Array => {
  const bytes = Buffer.from(file);
  for (let at = bytes.indexOf("PK\x01\x02"); at >= 0; at = bytes.indexOf("PK\x01\x02", at + 4)) {
    bytes.writeUInt32LE(declared, at + 24);
  }
  return bytes;
};

const deep = (depth: number): string =>
  `${"<w:x>".repeat(depth)}${paragraph("deep")}${"</w:x>".repeat(depth)}`;

test.each<[string, string, Uint8Array | string, ExtractionFailure]>([
  ["a PDF with a password", mime.pdf, encryptedPdf(), "encrypted"],
  ["an Office document with a password", mime.docx, ole, "encrypted"],
  ["half a PDF", mime.pdf, pdf([["x"]]).subarray(0, 200), "malformed"],
  ["noise called a PDF", mime.pdf, `%PDF-1.7\n${"noise ".repeat(1_000)}`, "malformed"],
  ["half an archive", mime.docx, docx(paragraph("x")).subarray(0, 300), "malformed"],
  ["an archive of something else", mime.docx, zip({ "a.txt": "x" }), "malformed"],
  ["a spreadsheet called a presentation", mime.pptx, zip({ "xl/workbook.xml": "<x/>" }), "malformed"],
  ["a zip bomb", mime.docx, docx("<w:p/>".repeat((30 * mib) / 6)), "too_large"],
  [
    "an archive too large in all",
    mime.docx,
    docx(paragraph("x"), { "word/footnotes.xml": randomBytes(1.2 * mib).toString("hex") }),
    "too_large",
  ],
  ["an entry that says it has 4 GiB", mime.docx, lying(docx(paragraph("x")), 0xffff_fffe), "too_large"],
  ["too deep a document", mime.docx, docx(deep(5_000)), "too_large"],
  ["too deep a page", mime.html, `${"<div>".repeat(100_000)}x`, "too_large"],
  ["a file without text", mime.txt, " \n\t\n ", "no_text"],
  ["a scan without text", mime.pdf, pdf([[]]), "no_text"],
  ["a page of scripts", mime.html, "<script>alert(1)</script>", "no_text"],
  ["a type that has no text", "image/png", "x", "unsupported"],
  ["a property of all objects as type", "constructor", "x", "unsupported"],
])("%s fails", async (_, contentType, file, expected) => {
  expect(await failure(contentType, file, { maxInflatedBytes: 1.5 * mib })).toBe(expected);
});

test("too many entries fail", async () => {
  const many = Object.fromEntries(Array.from({ length: 300 }, (_, at) => [`word/media/${at}`, "x"]));
  expect(await failure(mime.docx, docx(paragraph("x"), many), { maxEntries: 299 })).toBe("too_large");
});

test("an entry that is larger than its directory says is cut off there", async () => {
  const file = docx(Array.from({ length: 5_000 }, (_, at) => paragraph(`Paragraph ${at}`)).join(""));
  const { stored } = await extracted(mime.docx, lying(file, 2_000));
  expect(stored.map(({ content }) => content).join("").length).toBeLessThan(2_000);
});

test.each([
  ["spaces", "word ".repeat(1_600_000)],
  ["no space", "x".repeat(8 * mib)],
])("a line of 8 MiB with %s costs no more than many lines", async (_, line) => {
  const begin = performance.now();
  const { truncated } = await extracted(mime.txt, line, { maxCharacters: 1_000_000 });
  expect(truncated).toBe(true);
  expect(performance.now() - begin).toBeLessThan(8_000);
});

test("entities that expand a billion times are not expanded", async () => {
  const entities = Array.from({ length: 10 }, (_, at) => `<!ENTITY l${at + 1} "${`&l${at};`.repeat(10)}">`);
  const xml = `<?xml version="1.0"?><!DOCTYPE x [<!ENTITY l0 "lol">${entities.join("")}]><w:document><w:p><w:t>&l10; end</w:t></w:p></w:document>`;
  const { stored } = await extracted(mime.docx, zip({ "word/document.xml": xml }));
  expect(stored).toHaveLength(1);
  expect(stored[0]?.content.length).toBeLessThan(40);
});

test("an external entity and an external part are not fetched", async () => {
  const xml = `<!DOCTYPE x [<!ENTITY e SYSTEM "file:///etc/passwd">]><w:document><w:p><w:t>a&e;b</w:t></w:p></w:document>`;
  const { stored } = await extracted(mime.docx, zip({ "word/document.xml": xml }));
  expect(stored[0]?.content).not.toContain("root:");
});

describe("limits of the thread", () => {
  test("a document that takes too long is ended in the middle", async () => {
    const bytes = Buffer.from("a long story, ".repeat(4 * mib));
    let batches = 0;
    const begin = performance.now();
    const running = runExtraction(
      { contentType: mime.txt, bytes: bytes.length, pieces: inPieces(bytes) },
      async () => {
        batches += 1;
      },
      { limits: { ...extractionLimits, timeMs: 2_000, maxCharacters: bytes.length } },
    );
    await expect(running).rejects.toMatchObject({ failure: "time_limit" });
    expect(batches).toBeGreaterThan(0);
    expect(performance.now() - begin).toBeLessThan(10_000);
  });

  test.each([
    ["once", 1],
    ["twice", 2],
  ])(
    "a PDF that inflates %s to 768 MiB is ended before it takes the memory",
    async (_, times) => {
      const file = await pdfBomb(768, times);
      const before = process.memoryUsage.rss();
      let peak = before;
      const watch = setInterval(() => {
        peak = Math.max(peak, process.memoryUsage.rss());
      }, 10);
      const ended = await failure(mime.pdf, file, { memoryMb: 150, timeMs: 60_000 });
      clearInterval(watch);
      expect(ended).toBe("memory_limit");
      expect(peak - before).toBeLessThan(500 * mib);
    },
    60_000,
  );

  test("a heap that grows too large ends the thread and not the process", async () => {
    const cells = '<c t="inlineStr"><is><t>x</t></is></c>'.repeat(200);
    const strings = `<sst>${"<si><t>abcdefgh</t></si>".repeat(1_500_000)}</sst>`;
    const file = zip({
      "xl/workbook.xml": "<workbook/>",
      "xl/sharedStrings.xml": strings,
      "xl/worksheets/a.xml": cells,
    });
    expect(await failure(mime.xlsx, file, { heapMb: 24, maxRatio: 10_000 })).toBe("memory_limit");
  });

  test("a file that never ends is not read for ever", async () => {
    let given = 0;
    async function* endless(): AsyncGenerator<Uint8Array> {
      for (;;) {
        given += 1;
        yield new Uint8Array(1_000).fill(0x61);
      }
    }
    await expect(
      runExtraction({ contentType: mime.txt, bytes: 10_000, pieces: endless() }, async () => {}),
    ).rejects.toMatchObject({ failure: "malformed" });
    expect(given).toBeLessThan(100_000);
  });

  test("an abort ends the thread with its reason", async () => {
    const controller = new AbortController();
    const bytes = Buffer.from("a ".repeat(4 * mib));
    const running = runExtraction(
      { contentType: mime.txt, bytes: bytes.length, pieces: inPieces(bytes) },
      async () => controller.abort(new Error("stopped")),
      { signal: controller.signal },
    );
    await expect(running).rejects.toThrow("stopped");
  });

  test("what storing throws is thrown on", async () => {
    const bytes = Buffer.from("some text");
    const running = runExtraction({ contentType: mime.txt, bytes: 9, pieces: inPieces(bytes) }, async () => {
      throw new Error("no database");
    });
    await expect(running).rejects.toThrow("no database");
  });
});
