import { Readable } from "node:stream";
import { createDeflate, deflateSync } from "node:zlib";
import { strToU8, zipSync } from "fflate";

/** Real documents, made by hand so that each test sees what is in them. */

const escaped = (text: string): string =>
  text.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;");

export const zip = (entries: Readonly<Record<string, string | Uint8Array>>): Uint8Array =>
  zipSync(
    Object.fromEntries(
      Object.entries(entries).map(([name, content]) => [
        name,
        typeof content === "string" ? strToU8(content) : content,
      ]),
    ),
  );

const w = 'xmlns:w="http://schemas.openxmlformats.org/wordprocessingml/2006/main"';

export const paragraph = (text: string, style?: string): string =>
  `<w:p>${style === undefined ? "" : `<w:pPr><w:pStyle w:val="${style}"/></w:pPr>`}<w:r><w:t xml:space="preserve">${escaped(text)}</w:t></w:r></w:p>`;

/** The XML of the body; the style `berschrift1` is "heading 1". */
export const docx = (body: string, more: Readonly<Record<string, string | Uint8Array>> = {}): Uint8Array =>
  zip({
    "word/document.xml": `<?xml version="1.0"?><w:document ${w}><w:body>${body}</w:body></w:document>`,
    "word/styles.xml": `<w:styles ${w}><w:style w:styleId="berschrift1"><w:name w:val="heading 1"/></w:style></w:styles>`,
    ...more,
  });

const relations = (targets: Readonly<Record<string, string>>): string =>
  `<Relationships>${Object.entries(targets)
    .map(([id, target]) => `<Relationship Id="${id}" Type="x" Target="${target}"/>`)
    .join("")}</Relationships>`;

/** Slides with their notes, shown in the given order though stored in the opposite one. */
export const pptx = (slides: readonly { text: string; notes?: string }[]): Uint8Array => {
  const file = (at: number): number => slides.length - at;
  const shape = (text: string): string =>
    `<p:sld xmlns:p="p" xmlns:a="a"><p:sp><a:p><a:r><a:t>${escaped(text)}</a:t></a:r></a:p><a:p><a:fld><a:t>99</a:t></a:fld></a:p></p:sp></p:sld>`;
  return zip({
    "ppt/presentation.xml": `<p:presentation xmlns:p="p" xmlns:r="r"><p:sldIdLst>${slides.map((_, at) => `<p:sldId id="${256 + at}" r:id="rId${at}"/>`).join("")}</p:sldIdLst></p:presentation>`,
    "ppt/_rels/presentation.xml.rels": relations(
      Object.fromEntries(slides.map((_, at) => [`rId${at}`, `slides/slide${file(at)}.xml`])),
    ),
    ...Object.fromEntries(
      slides.flatMap(({ text, notes }, at) => [
        [`ppt/slides/slide${file(at)}.xml`, shape(text)],
        ...(notes === undefined
          ? []
          : [
              [
                `ppt/slides/_rels/slide${file(at)}.xml.rels`,
                relations({ n: `../notesSlides/notesSlide${file(at)}.xml` }),
              ],
              [`ppt/notesSlides/notesSlide${file(at)}.xml`, shape(notes)],
            ]),
      ]),
    ),
  });
};

/** One sheet: its rows of texts and numbers; the second cell style is a date. */
export const xlsx = (name: string, rows: readonly (readonly (string | number | Date)[])[]): Uint8Array => {
  const strings: string[] = [];
  const cell = (value: string | number | Date): string => {
    if (typeof value === "number") return `<c><v>${value}</v></c>`;
    if (value instanceof Date) return `<c s="1"><v>${value.getTime() / 86_400_000 + 25_569}</v></c>`;
    strings.push(value);
    return `<c t="s"><v>${strings.length - 1}</v></c>`;
  };
  const sheet = rows.map((row, at) => `<row r="${at + 1}">${row.map(cell).join("")}</row>`).join("");
  return zip({
    "xl/workbook.xml": `<workbook xmlns:r="r"><sheets><sheet name="${escaped(name)}" sheetId="1" r:id="a"/></sheets></workbook>`,
    "xl/_rels/workbook.xml.rels": relations({ a: "/xl/worksheets/sheet1.xml" }),
    "xl/worksheets/sheet1.xml": `<worksheet><sheetData>${sheet}</sheetData></worksheet>`,
    "xl/sharedStrings.xml": `<sst>${strings.map((text) => `<si><t>${escaped(text)}</t></si>`).join("")}</sst>`,
    "xl/styles.xml": `<styleSheet><cellXfs><xf numFmtId="0"/><xf numFmtId="14"/></cellXfs></styleSheet>`,
  });
};

const pdfText = (text: string): string => text.replace(/[\\()]/g, "\\$&");

interface PdfStream {
  readonly dictionary: string;
  readonly content: Uint8Array;
}

/** Objects from number 1 on as a PDF; the first is the catalog. */
const pdfFile = (objects: readonly (string | PdfStream)[], trailer = ""): Uint8Array => {
  const parts: Uint8Array[] = [];
  let length = 0;
  const write = (part: string | Uint8Array): void => {
    const bytes = typeof part === "string" ? Buffer.from(part, "latin1") : part;
    parts.push(bytes);
    length += bytes.length;
  };
  write("%PDF-1.7\n");
  const offsets = objects.map((object, at) => {
    const offset = length;
    write(`${at + 1} 0 obj\n`);
    if (typeof object === "string") {
      write(object);
    } else {
      write(`<< ${object.dictionary} /Length ${object.content.length} >>\nstream\n`);
      write(object.content);
      write("\nendstream");
    }
    write("\nendobj\n");
    return offset;
  });
  const start = length;
  write(`xref\n0 ${objects.length + 1}\n0000000000 65535 f \n`);
  for (const offset of offsets) write(`${String(offset).padStart(10, "0")} 00000 n \n`);
  write(`trailer << /Size ${objects.length + 1} /Root 1 0 R ${trailer} >>\nstartxref\n${start}\n%%EOF\n`);
  return new Uint8Array(Buffer.concat(parts));
};

const pdfOf = (contents: readonly PdfStream[], trailer = ""): Uint8Array => {
  const page = (at: number): number => 4 + at * 2;
  return pdfFile(
    [
      "<< /Type /Catalog /Pages 2 0 R >>",
      `<< /Type /Pages /Count ${contents.length} /Kids [${contents.map((_, at) => `${page(at)} 0 R`).join(" ")}] >>`,
      "<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>",
      ...contents.flatMap((content, at) => [
        `<< /Type /Page /Parent 2 0 R /MediaBox [0 0 612 792] /Contents ${page(at) + 1} 0 R /Resources << /Font << /F1 3 0 R >> >> >>`,
        content,
      ]),
    ],
    trailer,
  );
};

/** A page per list of lines; an empty line is a gap. */
export const pdf = (pages: readonly (readonly string[])[], trailer = ""): Uint8Array =>
  pdfOf(
    pages.map((lines) => ({
      dictionary: "/Filter /FlateDecode",
      content: deflateSync(
        Buffer.from(
          `BT /F1 10 Tf 50 780 Td 12 TL\n${lines.map((line) => (line === "" ? "T* T*" : `(${pdfText(line)}) Tj T*`)).join("\n")}\nET`,
          "latin1",
        ),
      ),
    })),
    trailer,
  );

/** Asks for a password that nobody gives. */
export const encryptedPdf = (): Uint8Array =>
  pdf(
    [["secret"]],
    `/Encrypt << /Filter /Standard /V 1 /R 2 /P -4 /O <${"ab".repeat(32)}> /U <${"cd".repeat(32)}> >> /ID [<00> <00>]`,
  );

const mib = 1_048_576;

/** So many MiB of operators, deflated this many times, without ever being in memory. */
const deflated = async (size: number, times: number): Promise<Buffer> => {
  const piece = Buffer.alloc(mib, "0 ");
  let stream: Readable = Readable.from(
    (function* () {
      for (let at = 0; at < size; at += 1) yield piece;
    })(),
  );
  for (let at = 0; at < times; at += 1) stream = stream.pipe(createDeflate({ level: 1 }));
  const parts: Buffer[] = [];
  for await (const part of stream) parts.push(part as Buffer);
  return Buffer.concat(parts);
};

/** A page whose content inflates to this many MiB, after this many rounds. */
export const pdfBomb = async (size: number, times: number): Promise<Uint8Array> =>
  pdfOf([
    {
      dictionary: `/Filter [${"/FlateDecode ".repeat(times)}]`,
      content: await deflated(size, times),
    },
  ]);

/** A book: each page says its number and a sentence that is on no other. */
export const bookOf = (pages: number, lines = 45): Uint8Array =>
  pdf(
    Array.from({ length: pages }, (_, page) =>
      Array.from(
        { length: lines },
        (_, line) => `Page ${page + 1}, line ${line + 1}: the quick brown fox jumps over the lazy dog again.`,
      ),
    ),
  );
