/** A column: its heading, and what of a row stands in it. */
export interface Column<Row> {
  readonly head: string;
  readonly cell: (row: Row) => string | number | null;
  /** Numbers stand on the right. */
  readonly right?: boolean;
}

/** Nothing a stranger wrote may steer a terminal or begin a new line. */
export const plainText = (text: string): string => text.replace(/[\p{Cc}\p{Cf}\u2028\u2029]+/gu, " ").trim();

const maxCell = 80;

const shorten = (text: string): string => (text.length > maxCell ? `${text.slice(0, maxCell - 1)}…` : text);

/** Rows under their headings, aligned, without trailing spaces; nothing is `-`. */
export const table = <Row>(columns: readonly Column<Row>[], rows: readonly Row[]): string => {
  const cells = rows.map((row) =>
    columns.map(({ cell }) => {
      const value = cell(row);
      return value === null || value === "" ? "-" : shorten(plainText(String(value)));
    }),
  );
  const widths = columns.map(({ head }, at) =>
    Math.max(head.length, ...cells.map((line) => line[at]?.length ?? 0)),
  );
  const lines = [columns.map(({ head }) => head), ...cells].map((line) =>
    line
      .map((text, at) =>
        columns[at]?.right === true ? text.padStart(widths[at] ?? 0) : text.padEnd(widths[at] ?? 0),
      )
      .join("  ")
      .trimEnd(),
  );
  return lines.join("\n");
};

/** `90` → `1m 30s`; two units at most. */
export const duration = (secs: number | null): string | null => {
  if (secs === null) return null;
  const whole = Math.max(0, Math.round(secs));
  const units = [
    ["d", Math.floor(whole / 86_400)],
    ["h", Math.floor(whole / 3_600) % 24],
    ["m", Math.floor(whole / 60) % 60],
    ["s", whole % 60],
  ] as const;
  const first = units.findIndex(([, count]) => count > 0);
  if (first < 0) return "0s";
  return units
    .slice(first, first + 2)
    .filter(([, count]) => count > 0)
    .map(([unit, count]) => `${count}${unit}`)
    .join(" ");
};
