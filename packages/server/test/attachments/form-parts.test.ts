import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { parseDisposition } from "../../src/attachments/disposition.ts";
import { boundaryOf } from "../../src/attachments/form.ts";
import { bodyLimit, chatLimit, sizeLimit } from "../../src/attachments/limits.ts";
import { createPermits } from "../../src/attachments/permits.ts";

const latin1 = (text: string): string => Buffer.from(text, "utf8").toString("latin1");

describe("the disposition of a part", () => {
  test.each<[string, string, { name: string | null; filename: string | null } | null]>([
    ["a field", 'form-data; name="file"', { name: "file", filename: null }],
    ["a file", 'form-data; name="file"; filename="a b.txt"', { name: "file", filename: "a b.txt" }],
    ["unquoted", "form-data; name=file; filename=a.txt", { name: "file", filename: "a.txt" }],
    ["in other letters", 'FORM-DATA; Name="file"; FILENAME="a"', { name: "file", filename: "a" }],
    ["an empty name", 'form-data; name="file"; filename=""', { name: "file", filename: "" }],
    ["UTF-8", latin1('form-data; name="file"; filename="né.txt"'), { name: "file", filename: "né.txt" }],
    ["no UTF-8", 'form-data; name="file"; filename="n\xe9.txt"', { name: "file", filename: "n\u00e9.txt" }],
    ["an escaped quote", 'form-data; name="file"; filename="a\\"b"', { name: "file", filename: 'a"b' }],
    ["a path", 'form-data; name="file"; filename="C:\\a\\b.txt"', { name: "file", filename: "C:\\a\\b.txt" }],
    ["a semicolon", 'form-data; name="file"; filename="a;name=b"', { name: "file", filename: "a;name=b" }],
    ["filename*", "form-data; name=\"file\"; filename*=UTF-8''n%C3%A9", { name: "file", filename: "né" }],
    [
      "filename* beside filename",
      'form-data; name="file"; filename="x"; filename*=utf-8\'de\'n%C3%A9',
      { name: "file", filename: "né" },
    ],
    ["filename* in latin1", "form-data; name=f; filename*=iso-8859-1''n%E9", { name: "f", filename: "né" }],
    ["a broken filename*", 'form-data; name=f; filename="x"; filename*=y', { name: "f", filename: "x" }],
    ["twice the same", 'form-data; name="file"; name="other"', { name: "file", filename: null }],
    ["an open quote", 'form-data; name="file"; filename="a;b="c', { name: "file", filename: "a;b=" }],
    [
      "an open quote at the end",
      'form-data; name="file"; filename="a;b\\',
      { name: "file", filename: "a;b\\" },
    ],
    ["no name", 'form-data; filename="file"', { name: null, filename: "file" }],
    ["an attachment", 'attachment; name="file"', null],
    ["nothing", "", null],
  ])("%s", (_name, header, expected) => {
    expect(parseDisposition(header)).toEqual(expected);
  });

  test("a hostile header takes no longer than it is long", () => {
    const begin = performance.now();
    parseDisposition(`form-data${';a="'.repeat(20_000)}\\`);
    // Quadratic time would be many seconds.
    expect(performance.now() - begin).toBeLessThan(1_000);
  });

  test("any name a browser sends comes back, any header is read without an error", () => {
    const names = fc.string({ unit: "grapheme" }).filter((name) => !/["\\\r\n]/.test(name));
    fc.assert(
      fc.property(names, (name) => {
        const header = latin1(`form-data; name="file"; filename="${name}"`);
        expect(parseDisposition(header)?.filename).toBe(name);
      }),
    );
    fc.assert(
      fc.property(fc.string({ unit: "binary" }), (text) => void parseDisposition(`form-data;${text}`)),
    );
  });
});

describe("the boundary of a form", () => {
  test.each<[string, string]>([
    ["multipart/form-data; boundary=x", "x"],
    ["Multipart/Form-Data;BOUNDARY=x", "x"],
    ['multipart/form-data; charset=utf-8; boundary="a b"', "a b"],
    [`multipart/form-data; boundary=${"x".repeat(70)}`, "x".repeat(70)],
    ["multipart/form-data; boundary=x; charset=utf-8", "x"],
  ])("%s", (header, boundary) => {
    expect(boundaryOf(header)).toBe(boundary);
  });

  test.each([
    undefined,
    "",
    ";",
    "application/json",
    "multipart/form-data",
    "multipart/form-data; boundary=",
    'multipart/form-data; boundary=""',
    "multipart/form-data; boundary",
    `multipart/form-data; boundary=${"x".repeat(71)}`,
    "multipart/form-database; boundary=x",
    "text/plain; boundary=x",
  ])("is missing in %s", (header) => {
    expect(() => boundaryOf(header)).toThrow(
      expect.objectContaining({ code: "invalid_request", status: 400, title: "Missing Boundary" }),
    );
  });
});

const limits = {
  uploaded_file_max_size_kb: 25_600,
  uploaded_image_max_size_kb: 5_120,
  max_documents_per_chat: 50,
  max_total_upload_mb_per_chat: 100,
};
const mib = 1_048_576;

describe("the limits of attachments.md §3 and §7", () => {
  test.each<[kind: "document" | "image", modelMb: number, bytes: number]>([
    ["document", 25, 25 * mib],
    ["document", 10, 10 * mib],
    ["document", 100, 25 * mib],
    ["image", 25, 5 * mib],
    ["image", 1, mib],
    ["image", 0, 0],
    ["document", 0, 0],
  ])("a %s with a model limit of %i MiB may have %i bytes", (kind, modelMb, bytes) => {
    expect(sizeLimit(limits, kind, modelMb)).toBe(bytes);
  });

  test("the body may be as large as the largest file of any kind with 64 KiB around it", () => {
    expect(bodyLimit(limits)).toBe(25 * mib + 65_536);
    expect(bodyLimit({ ...limits, uploaded_image_max_size_kb: 1_048_576 })).toBe(1_024 * mib + 65_536);
    expect(chatLimit(limits)).toBe(BigInt(100 * mib));
  });
});

describe("permits", () => {
  test("the eleventh of a process and the fourth of a user are refused; giving back twice counts once", () => {
    const permits = createPermits({ process: 10, user: 3 });
    const ann = [1, 2, 3].map(() => permits.take("ann"));
    expect(permits.take("ann")).toBeNull();
    ann[0]?.();
    ann[0]?.();
    expect(permits.take("ann")).not.toBeNull();
    expect(permits.take("ann")).toBeNull();
    for (let at = 0; at < 7; at += 1) expect(permits.take(`user ${at}`)).not.toBeNull();
    expect(permits.take("one more")).toBeNull();
  });

  test("never are more given than the limits allow, whatever is taken and given back", () => {
    const step = fc.tuple(fc.constantFrom("a", "b", "c"), fc.boolean());
    fc.assert(
      fc.property(fc.array(step, { maxLength: 60 }), (steps) => {
        const permits = createPermits({ process: 4, user: 2 });
        const held: { user: string; release: () => void }[] = [];
        for (const [user, take] of steps) {
          if (!take) {
            held.shift()?.release();
            continue;
          }
          const own = held.filter((one) => one.user === user).length;
          const release = permits.take(user);
          expect(release !== null).toBe(held.length < 4 && own < 2);
          if (release !== null) held.push({ user, release });
        }
      }),
    );
  });
});
