import { fileSearch } from "./file-search.ts";
import type { Scenario } from "./scenario.ts";

const searched = "Searching the web gave this answer.";
/** The scenarios of providers.md §11.2, by the name `x-sim-scenario` asks for. */
export const builtinScenarios = {
  ping: { name: "ping", events: [{ text: "PONG" }] },
  search: {
    name: "search",
    events: [
      { text: searched },
      { tool: "web_search", phase: "start" },
      { tool: "web_search", phase: "done" },
    ],
    citations: [
      {
        type: "url_citation",
        url: "https://example.com/simulated-result",
        title: "Simulated result",
        start_index: 0,
        end_index: searched.length,
      },
    ],
  },
  filesearch: fileSearch("filesearch", {
    fileId: "{{found:1}}",
    filename: "document.txt",
    score: 0.9,
    excerpt: "An excerpt.",
    answer: "The document says so.",
  }),
  codeinterp: {
    name: "codeinterp",
    events: [
      { tool: "code_interpreter", phase: "start" },
      { tool: "code_interpreter", phase: "progress" },
      { tool: "code_interpreter", phase: "done", outputs: [{ type: "logs", logs: "42\n" }] },
      { text: "The program printed 42." },
    ],
  },
  write: {
    name: "write",
    event_delay_ms: 300,
    events: ["Once ", "upon ", "a ", "time ", "there ", "was ", "text."].map((text) => ({ text })),
  },
  error: {
    name: "error",
    events: [{ text: "This will " }],
    error: { code: "server_error", message: "The simulated model failed." },
  },
  truncate: {
    name: "truncate",
    events: [{ text: "This answer stops before its" }],
    incomplete_reason: "max_output_tokens",
  },
  summary: {
    name: "summary",
    events: [
      { text: "<analysis>The simulated model thinks.</analysis>\n" },
      { text: "<summary>\nPurpose: a simulated summary.\n</summary>" },
    ],
  },
  default: { name: "default", events: [{ text: "Hello" }, { text: " from the simulator." }] },
} as const satisfies Readonly<Record<string, Scenario>>;

export type BuiltinName = keyof typeof builtinScenarios;

/** Rows in the order they are tried; `*` at the end stands for any text, also none. */
const textTable: readonly (readonly [pattern: string, name: BuiltinName])[] = [
  ["PING", "ping"],
  ["ERROR", "error"],
  ["TRUNCATE", "truncate"],
  ["SEARCH:*", "search"],
  ["FILESEARCH:*", "filesearch"],
  ["CODEINTERP:*", "codeinterp"],
  ["Write*", "write"],
];

/** The scenario for the text of the last user message: an exact match, then a glob; null for any other text. */
export const scenarioForText = (text: string): Scenario | null => {
  const row = textTable.find(([pattern]) =>
    pattern.endsWith("*") ? text.startsWith(pattern.slice(0, -1)) : text === pattern,
  );
  return row === undefined ? null : builtinScenarios[row[1]];
};

/** The scenario of that name; null when there is none. */
export const builtinScenario = (name: string): Scenario | null => {
  const entry = Object.entries(builtinScenarios).find(([key]) => key === name);
  return entry?.[1] ?? null;
};
