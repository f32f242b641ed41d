import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { declaredType, type FileType, fileTypes } from "../../src/attachments/mime.ts";
import { sniffedBytes, sniffedType } from "../../src/attachments/sniff.ts";

const bytes = (text: string): Buffer => Buffer.from(text, "latin1");

/** The beginning of a file of each kind. */
const heads = {
  png: bytes("\x89PNG\r\n\x1a\n\0\0\0\rIHDR"),
  jpeg: bytes("\xff\xd8\xff\xe0\0\x10JFIF"),
  gif: bytes("GIF89a\x01\0\x01\0"),
  webp: bytes("RIFF\x10\0\0\0WEBPVP8 "),
  pdf: bytes("%PDF-1.7\n"),
  zip: bytes("PK\x03\x04\x14\0"),
  text: bytes("Two items are due."),
} as const;

const typeOf = (mime: string): FileType => {
  const { type } = declaredType(mime, "", { allowCsv: true });
  if (type === null) throw new Error(`${mime} is not allowed`);
  return type;
};

describe.each(fileTypes)("a file declared as $mime", (type) => {
  test.each(Object.entries(heads))("that begins as %s", (content, head) => {
    const found = sniffedType(type, head);
    const images = ["png", "jpeg", "gif", "webp"];
    const isBinary = content !== "text";
    if (type.kind === "image") {
      // An image declared as another allowed one is what it is.
      expect(found?.mime ?? null).toBe(images.includes(content) ? `image/${content}` : null);
    } else if (type.content === "text") {
      // A text type refuses bytes, not words: `%PDF-1.7` and `GIF89a` may begin a text.
      expect(found).toBe(head.includes(0) ? null : type);
    } else expect(found).toBe(isBinary && content === type.content ? type : null);
  });
});

describe("the windows of attachments.md §5", () => {
  const pdf = typeOf("application/pdf");
  const text = typeOf("text/plain");

  test("%PDF- may begin anywhere in the first 1024 bytes, whole", () => {
    const at = (offset: number): Buffer => Buffer.concat([Buffer.alloc(offset, "x"), bytes("%PDF-1.7")]);
    expect(sniffedType(pdf, at(0))).toBe(pdf);
    expect(sniffedType(pdf, at(sniffedBytes - 5))).toBe(pdf);
    expect(sniffedType(pdf, at(sniffedBytes - 4))).toBeNull();
    expect(sniffedType(pdf, at(sniffedBytes))).toBeNull();
  });

  test("a text has no NUL in its first 512 bytes", () => {
    const nulAt = (offset: number): Buffer => Buffer.concat([Buffer.alloc(offset, "x"), Buffer.alloc(1)]);
    expect(sniffedType(text, nulAt(0))).toBeNull();
    expect(sniffedType(text, nulAt(511))).toBeNull();
    expect(sniffedType(text, nulAt(512))).toBe(text);
    expect(sniffedType(text, Buffer.from("UTF-16", "utf16le"))).toBeNull();
  });

  test("a signature cut short is none", () => {
    for (const content of ["png", "jpeg", "gif", "webp"] as const) {
      const type = typeOf(`image/${content}`);
      const length = { png: 8, jpeg: 3, gif: 6, webp: 12 }[content];
      for (let cut = 0; cut < length; cut += 1) {
        expect(sniffedType(type, heads[content].subarray(0, cut)), `${content} ${cut}`).toBeNull();
      }
      expect(sniffedType(type, heads[content].subarray(0, length))).toBe(type);
    }
  });

  test("RIFF of another kind is no WebP, an empty archive no document", () => {
    expect(sniffedType(typeOf("image/webp"), bytes("RIFF\x10\0\0\0WAVEfmt "))).toBeNull();
    const xlsx = fileTypes.find(({ extension }) => extension === "xlsx");
    expect(sniffedType(xlsx ?? pdf, bytes("PK\x05\x06"))).toBeNull();
  });
});

test("whatever the bytes, the kind stays, and an image is only ever stored as what it is", () => {
  fc.assert(
    fc.property(fc.constantFrom(...fileTypes), fc.uint8Array({ maxLength: 1_024 }), (type, random) => {
      const found = sniffedType(type, Buffer.from(random));
      if (found === null) return;
      expect(found.kind).toBe(type.kind);
      if (found.kind === "document") expect(found).toBe(type);
    }),
  );
});
