const maxLength = 255;
const fallback = "upload";

// Control characters, and those that embed, override or isolate a writing direction: they make a name look like another.
const misleading = /[\p{Cc}\u202a-\u202e\u2066-\u2069]/gu;

/**
 * The name a file is stored and shown under (attachments.md §4): no directories, control or
 * bidi-override characters, NFC, at most 255 code points; `upload` when nothing is left.
 */
export const cleanFilename = (given: string | null): string => {
  // Before the directories: a name must not come apart at what is taken out of it later.
  const visible = (given ?? "").toWellFormed().replaceAll(misleading, "");
  const base = visible.slice(Math.max(visible.lastIndexOf("/"), visible.lastIndexOf("\\")) + 1);
  const name = truncateFilename(base.normalize("NFC"));
  return name === "" ? fallback : name;
};

/** Shortens a name to 255 code points: the stem first, so that its last extension stays (attachments.md §4). */
export const truncateFilename = (name: string): string => {
  const points = [...name];
  if (points.length <= maxLength) return name;
  const dot = points.lastIndexOf(".");
  if (dot <= 0 || dot === points.length - 1) return points.slice(0, maxLength).join("");
  const extension = points.slice(dot);
  if (extension.length >= maxLength) return points.slice(-maxLength).join("");
  return [...points.slice(0, maxLength - extension.length), ...extension].join("");
};

/** Text after the last dot, lower case; null for a name without a dot. */
export const extensionOf = (name: string): string | null => {
  const dot = name.lastIndexOf(".");
  return dot < 0 ? null : name.slice(dot + 1).toLowerCase();
};
