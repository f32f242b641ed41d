import type { CitableFile } from "../context/citations.ts";

type Details = Readonly<Record<string, unknown>>;

/**
 * What a client is told of a tool call: where a text names a file of the chat as its provider does, it
 * names it as its user did (turns.md §23.19). Code prints the paths of its files, which hold such ids.
 */
export const toolDetails = (details: Details, files: ReadonlyMap<string, CitableFile>): Details => {
  if (files.size === 0) return details;
  return Object.fromEntries(
    Object.entries(details).map(([key, value]) => [
      key,
      typeof value === "string" ? withOwnNames(value, files) : value,
    ]),
  );
};

const withOwnNames = (text: string, files: ReadonlyMap<string, CitableFile>): string => {
  let told = text;
  // Longer ids first: one may be the beginning of another.
  for (const [id, { filename }] of [...files].sort(([a], [b]) => b.length - a.length)) {
    told = told.replaceAll(id, () => filename);
  }
  return told;
};
