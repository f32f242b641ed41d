import { readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";

/** A page of docs/ that a test follows word by word. */

export interface Step {
  readonly commands: string;
  /** What the page says it prints; null: it does not say. */
  readonly output: string | null;
}

export const readPage = (name: string): string =>
  readFileSync(fileURLToPath(new URL(`../../../../docs/${name}`, import.meta.url)), "utf8");

/** The blocks of a section: commands, and the output shown right below them. */
export const stepsOf = (page: string, heading: string): Step[] => {
  const section = page.split(/^## /m).find((text) => text.startsWith(`${heading}\n`));
  if (section === undefined) throw new Error(`the page has no section ${heading}`);
  const blocks = section.matchAll(/^```sh\n(.*?)^```\n(?:```text\n(.*?)^```\n)?/gms);
  return [...blocks].map(([, commands = "", output]) => ({ commands, output: output ?? null }));
};
