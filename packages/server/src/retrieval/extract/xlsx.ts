import { type Archive, openArchive } from "./archive.ts";
import { type Emit, ExtractionError, placeName } from "./block.ts";
import type { ExtractionLimits } from "./limits.ts";
import { relationsOf } from "./relations.ts";
import { dateStyles, serialDate } from "./xlsx-dates.ts";
import { walkXml } from "./xml.ts";

const workbook = "xl/workbook.xml";
const wanted =
  /^xl\/(_rels\/workbook\.xml\.rels|workbook\.xml|sharedStrings\.xml|styles\.xml|worksheets\/[^/]+\.xml)$/;

/** Sheets in their order, a block per row that says something. Formulas count as their last result. */
export const extractXlsx = (bytes: Uint8Array, emit: Emit, limits: ExtractionLimits): void => {
  const archive = openArchive(bytes, (path) => wanted.test(path), limits);
  if (!archive.has(workbook)) throw new ExtractionError("malformed");
  const strings = sharedStrings(archive, limits);
  const dates = dateStyles(archive.get("xl/styles.xml"), limits);
  for (const { path, name } of sheetsOf(archive, limits)) {
    extractSheet(archive.get(path), { name, strings, dates }, emit, limits);
  }
};

const sheetsOf = (archive: Archive, limits: ExtractionLimits): { path: string; name: string }[] => {
  const targets = relationsOf(archive, workbook, limits);
  const sheets: { path: string; name: string }[] = [];
  walkXml(
    archive.get(workbook),
    {
      open: (tag, attributes) => {
        const path = tag === "sheet" ? targets.get(attributes["r:id"] ?? "") : undefined;
        const name = placeName(attributes["name"] ?? "") ?? `${sheets.length + 1}`;
        if (path !== undefined) sheets.push({ path, name });
      },
    },
    limits,
  );
  return sheets;
};

const sharedStrings = (archive: Archive, limits: ExtractionLimits): string[] => {
  const strings: string[] = [];
  let text = "";
  let inText = false;
  let phonetic = false;
  walkXml(
    archive.get("xl/sharedStrings.xml"),
    {
      open: (tag) => {
        if (tag === "si") text = "";
        else if (tag === "rPh") phonetic = true;
        else if (tag === "t") inText = !phonetic;
      },
      text: (piece) => {
        if (inText) text += piece;
      },
      close: (tag) => {
        if (tag === "t") inText = false;
        else if (tag === "rPh") phonetic = false;
        else if (tag === "si") strings.push(text);
      },
    },
    limits,
  );
  return strings;
};

interface Sheet {
  readonly name: string;
  readonly strings: readonly string[];
  readonly dates: ReadonlySet<number>;
}

const cellText = (type: string, style: number, text: string, sheet: Sheet): string => {
  if (type === "s") return sheet.strings[Number(text)] ?? "";
  if (type === "b") return text === "1" ? "TRUE" : "FALSE";
  if (type === "n" && sheet.dates.has(style)) return serialDate(Number(text)) ?? text;
  return text;
};

/** A sheet has no more rows. */
const maxRow = 1_048_576;

/** Null when it says nothing, or names no row there can be. */
const rowNumber = (text = ""): number | null => {
  const row = Number.parseInt(text, 10);
  return row >= 1 && row <= maxRow ? row : null;
};

const extractSheet = (
  bytes: Uint8Array | undefined,
  sheet: Sheet,
  emit: Emit,
  limits: ExtractionLimits,
): void => {
  let row = 0;
  let values: string[] = [];
  let type = "n";
  let style = 0;
  let text = "";
  let inValue = false;
  walkXml(
    bytes,
    {
      open: (tag, attributes) => {
        if (tag === "row") {
          row = rowNumber(attributes["r"]) ?? row + 1;
          values = [];
        } else if (tag === "c") {
          type = attributes["t"] ?? "n";
          style = Number(attributes["s"] ?? 0);
          text = "";
        } else if (tag === "v" || tag === "t") inValue = true;
      },
      text: (piece) => {
        if (inValue) text += piece;
      },
      close: (tag) => {
        if (tag === "v" || tag === "t") inValue = false;
        else if (tag === "c") {
          const value = cellText(type, style, text, sheet).replace(/\s+/gu, " ").trim();
          if (value !== "") values.push(value);
        } else if (tag === "row" && values.length > 0) {
          emit({ text: values.join(" | "), place: { kind: "sheet", number: row, name: sheet.name } });
        }
      },
    },
    limits,
  );
};
