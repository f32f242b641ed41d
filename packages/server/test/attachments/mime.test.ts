import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { declaredType, fileTypes } from "../../src/attachments/mime.ts";

/** attachments.md §5, copied by hand: type, kind, extension, also inferred from, purpose. */
const table = `
application/pdf|document|pdf||file_search
text/plain|document|txt||file_search
text/markdown|document|md|markdown|file_search
text/html|document|html|htm|file_search
application/vnd.openxmlformats-officedocument.wordprocessingml.document|document|docx||file_search
application/vnd.openxmlformats-officedocument.presentationml.presentation|document|pptx||file_search
application/vnd.openxmlformats-officedocument.spreadsheetml.sheet|document|xlsx||code_interpreter
application/json|document|json||file_search
text/x-python|document|py||file_search
text/x-java|document|java||file_search
text/javascript|document|js|mjs|file_search
text/typescript|document|ts|mts|file_search
text/x-rust|document|rs||file_search
text/x-go|document|go||file_search
text/x-csharp|document|cs||file_search
text/x-ruby|document|rb||file_search
text/x-sql|document|sql||file_search
image/png|image|png||
image/jpeg|image|jpg|jpeg|
image/webp|image|webp||
image/gif|image|gif||`
  .trim()
  .split("\n")
  .map((line) => {
    const [mime = "", kind = "", extension = "", also = "", purpose = ""] = line.split("|");
    return { mime, kind, extension, also, purpose: purpose === "" ? null : purpose };
  });

const csv = { allowCsv: true };

test("the 21 types are those of attachments.md §5, in kind, extension and purpose", () => {
  const listed = fileTypes.map(({ mime, kind, extension, purpose }) => ({ mime, kind, extension, purpose }));
  expect(listed).toEqual(table.map(({ also: _, ...row }) => row));
  expect(listed).toHaveLength(21);
});

describe.each(table)("$mime", ({ mime, extension, also }) => {
  test("is accepted as it is, in any case, with parameters and blanks", () => {
    for (const sent of [mime, mime.toUpperCase(), ` ${mime} `, `${mime}; charset=utf-8`, `${mime} ;x=";"`]) {
      expect(declaredType(sent, "x", csv)).toMatchObject({ mime, type: { mime } });
    }
  });

  test("is inferred from its extensions, in any case, and from nothing else", () => {
    for (const one of [extension, ...(also === "" ? [] : [also])]) {
      for (const name of [`a.${one}`, `a.b.${one.toUpperCase()}`, `.${one}`]) {
        const found = declaredType("application/octet-stream", name, csv);
        expect(found, name).toMatchObject({ mime, type: { mime } });
      }
      expect(declaredType("application/octet-stream", one, csv).type).toBeNull();
    }
  });
});

describe("what is not in the table", () => {
  test.each<[string, string, string]>([
    ["application/octet-stream", "plan", "application/octet-stream"],
    ["application/octet-stream", "plan.exe", "application/octet-stream"],
    ["application/octet-stream", "plan.", "application/octet-stream"],
    ["APPLICATION/OCTET-STREAM; x=y", "", "application/octet-stream"],
    ["application/zip", "plan.pdf", "application/zip"],
    ["image/svg+xml", "a.svg", "image/svg+xml"],
    ["image/jpg", "a.jpg", "image/jpg"],
    ["text/xml", "a.xml", "text/xml"],
    ["", "a.pdf", ""],
    ["pdf", "a.pdf", "pdf"],
    ["__proto__", "a", "__proto__"],
    ["application/octet-stream", "a.constructor", "application/octet-stream"],
  ])("'%s' named '%s' is refused as '%s'", (sent, name, mime) => {
    expect(declaredType(sent, name, csv)).toEqual({ mime, type: null });
  });
});

describe("CSV", () => {
  test.each(["text/csv", "TEXT/CSV; header=present"])("%s is plain text where it is allowed", (sent) => {
    expect(declaredType(sent, "a.csv", csv)).toMatchObject({
      mime: "text/plain",
      type: { extension: "txt" },
    });
    expect(declaredType(sent, "a.csv", { allowCsv: false })).toEqual({ mime: "text/csv", type: null });
  });

  test("is inferred from its extension, too", () => {
    const sent = "application/octet-stream";
    expect(declaredType(sent, "a.csv", csv)).toMatchObject({ mime: "text/plain" });
    expect(declaredType(sent, "a.csv", { allowCsv: false })).toEqual({ mime: "text/csv", type: null });
  });
});

test("any declared type is in the table or refused, and the answer is the same for every name", () => {
  fc.assert(
    fc.property(fc.string({ unit: "binary" }), fc.string({ unit: "binary" }), (sent, name) => {
      const { mime, type } = declaredType(sent, name, csv);
      if (type === null) expect(fileTypes.map((one) => one.mime)).not.toContain(mime);
      else expect(type.mime).toBe(mime);
    }),
  );
});
