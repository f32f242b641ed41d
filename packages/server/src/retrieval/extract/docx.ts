import { type Archive, openArchive } from "./archive.ts";
import { type Emit, ExtractionError, placeName } from "./block.ts";
import type { ExtractionLimits } from "./limits.ts";
import { attribute, walkXml } from "./xml.ts";

const parts = ["word/document.xml", "word/footnotes.xml", "word/endnotes.xml"] as const;

/** Paragraphs under their headings, table rows as one paragraph, then foot- and endnotes. */
export const extractDocx = (bytes: Uint8Array, emit: Emit, limits: ExtractionLimits): void => {
  const wanted = new Set<string>([...parts, "word/styles.xml"]);
  const archive = openArchive(bytes, (path) => wanted.has(path), limits);
  if (!archive.has(parts[0])) throw new ExtractionError("malformed");
  const headings = headingStyles(archive, limits);
  let number = 0;
  for (const part of parts) number = extractPart(archive.get(part), number, headings, emit, limits);
};

/** Ids of the styles called "heading 1" and so on, whatever they are in the language of the document. */
const headingStyles = (archive: Archive, limits: ExtractionLimits): ReadonlySet<string> => {
  const ids = new Set<string>();
  let id: string | undefined;
  walkXml(
    archive.get("word/styles.xml"),
    {
      open: (name, attributes) => {
        if (name === "style") id = attribute(attributes, "styleId");
        if (name !== "name" || id === undefined) return;
        if (/^(heading \d|title)$/i.test(attribute(attributes, "val") ?? "")) ids.add(id);
      },
    },
    limits,
  );
  return ids;
};

const extractPart = (
  bytes: Uint8Array | undefined,
  before: number,
  headings: ReadonlySet<string>,
  emit: Emit,
  limits: ExtractionLimits,
): number => {
  let number = before;
  let name: string | undefined;
  let text = "";
  let isHeading = false;
  let inText = false;
  let cells = 0;
  /** Alternatives for older programs repeat what was said. */
  let fallbacks = 0;
  const flush = (): void => {
    const paragraph = text
      .replace(/[^\S\n]+/gu, " ")
      .replace(/(?: \|)+ ?$/, "")
      .trim();
    text = "";
    if (paragraph === "") return;
    number += 1;
    if (isHeading) name = placeName(paragraph) ?? name;
    emit({
      text: paragraph,
      place: { kind: "section", number, ...(name === undefined ? {} : { name }) },
    });
  };
  walkXml(
    bytes,
    {
      open: (tag, attributes) => {
        if (tag === "Fallback") fallbacks += 1;
        else if (tag === "p") isHeading = false;
        else if (tag === "pStyle") isHeading = headings.has(attribute(attributes, "val") ?? "");
        else if (tag === "tc") cells += 1;
        else if (tag === "t") inText = fallbacks === 0;
        else if (tag === "tab" || tag === "br" || tag === "cr") text += tag === "tab" ? " " : "\n";
      },
      text: (piece) => {
        if (inText) text += piece;
      },
      close: (tag) => {
        if (tag === "Fallback") fallbacks -= 1;
        else if (tag === "t") inText = false;
        else if (tag === "p" && cells === 0) flush();
        else if (tag === "p") text += " ";
        else if (tag === "tr" && cells === 0) flush();
        else if (tag === "tc") {
          cells -= 1;
          text += " | ";
        }
      },
    },
    limits,
  );
  flush();
  return number;
};
