import type { ExtractionLimits } from "./limits.ts";
import { walkXml } from "./xml.ts";

/** Formats a workbook does not define itself that show a date or a time (ECMA-376, 18.8.30). */
const builtIn = (format: number): boolean =>
  (format >= 14 && format <= 22) || (format >= 27 && format <= 36) || (format >= 45 && format <= 58);

/** Letters of dates outside of quoted text, colours and conditions. */
const showsDate = (code: string): boolean => /[dmyhs]/i.test(code.replace(/"[^"]*"|\\.|\[[^\]]*\]/g, ""));

/** The cell styles under which a number is a date. */
export const dateStyles = (bytes: Uint8Array | undefined, limits: ExtractionLimits): ReadonlySet<number> => {
  const own = new Map<number, boolean>();
  const dates = new Set<number>();
  let inCells = false;
  let style = 0;
  walkXml(
    bytes,
    {
      open: (tag, attributes) => {
        const format = Number(attributes["numFmtId"]);
        if (tag === "numFmt") own.set(format, showsDate(attributes["formatCode"] ?? ""));
        else if (tag === "cellXfs") inCells = true;
        else if (tag === "xf" && inCells) {
          if (own.get(format) ?? builtIn(format)) dates.add(style);
          style += 1;
        }
      },
      close: (tag) => {
        if (tag === "cellXfs") inCells = false;
      },
    },
    limits,
  );
  return dates;
};

const dayMs = 86_400_000;
const firstDay = Date.UTC(1899, 11, 30);

/** `2026-03-01`, with the time unless it is midnight; a fraction of a day alone is a time. Null outside of years. */
export const serialDate = (serial: number): string | null => {
  if (!(serial >= 0 && serial < 2_958_466)) return null;
  const [date = "", time = ""] = new Date(firstDay + Math.round((serial * dayMs) / 1_000) * 1_000)
    .toISOString()
    .slice(0, 19)
    .split("T");
  if (serial < 1) return time;
  return time === "00:00:00" ? date : `${date} ${time}`;
};
