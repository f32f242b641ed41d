import type { Scenario } from "./scenario.ts";

/** What a file search found, and what the model makes of it. */
export interface Finding {
  readonly fileId: string;
  readonly filename: string;
  readonly score: number;
  readonly excerpt: string;
  readonly answer: string;
}

/** An answer from a document: the search, the text, and a citation at its end. */
export const fileSearch = (
  name: string,
  { fileId, filename, score, excerpt, answer }: Finding,
): Scenario => ({
  name,
  events: [
    { tool: "file_search", phase: "start" },
    {
      tool: "file_search",
      phase: "done",
      results: [{ file_id: fileId, filename, score, text: excerpt, attributes: {} }],
    },
    { text: answer },
  ],
  citations: [{ type: "file_citation", file_id: fileId, filename, index: answer.length - 1, text: excerpt }],
});
