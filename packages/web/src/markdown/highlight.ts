import type { HLJSApi, LanguageFn } from "highlight.js";

type Loader = () => Promise<{ default: LanguageFn }>;

const loaders: Readonly<Record<string, Loader>> = {
  bash: () => import("highlight.js/lib/languages/bash"),
  c: () => import("highlight.js/lib/languages/c"),
  cpp: () => import("highlight.js/lib/languages/cpp"),
  csharp: () => import("highlight.js/lib/languages/csharp"),
  css: () => import("highlight.js/lib/languages/css"),
  diff: () => import("highlight.js/lib/languages/diff"),
  dockerfile: () => import("highlight.js/lib/languages/dockerfile"),
  go: () => import("highlight.js/lib/languages/go"),
  graphql: () => import("highlight.js/lib/languages/graphql"),
  ini: () => import("highlight.js/lib/languages/ini"),
  java: () => import("highlight.js/lib/languages/java"),
  javascript: () => import("highlight.js/lib/languages/javascript"),
  json: () => import("highlight.js/lib/languages/json"),
  kotlin: () => import("highlight.js/lib/languages/kotlin"),
  lua: () => import("highlight.js/lib/languages/lua"),
  makefile: () => import("highlight.js/lib/languages/makefile"),
  markdown: () => import("highlight.js/lib/languages/markdown"),
  php: () => import("highlight.js/lib/languages/php"),
  python: () => import("highlight.js/lib/languages/python"),
  ruby: () => import("highlight.js/lib/languages/ruby"),
  rust: () => import("highlight.js/lib/languages/rust"),
  sql: () => import("highlight.js/lib/languages/sql"),
  swift: () => import("highlight.js/lib/languages/swift"),
  typescript: () => import("highlight.js/lib/languages/typescript"),
  xml: () => import("highlight.js/lib/languages/xml"),
  yaml: () => import("highlight.js/lib/languages/yaml"),
};

const aliases: Readonly<Record<string, string>> = {
  sh: "bash",
  shell: "bash",
  zsh: "bash",
  console: "bash",
  "c++": "cpp",
  cs: "csharp",
  docker: "dockerfile",
  golang: "go",
  toml: "ini",
  js: "javascript",
  jsx: "javascript",
  mjs: "javascript",
  kt: "kotlin",
  make: "makefile",
  md: "markdown",
  py: "python",
  rb: "ruby",
  rs: "rust",
  postgresql: "sql",
  ts: "typescript",
  tsx: "typescript",
  html: "xml",
  svg: "xml",
  yml: "yaml",
  patch: "diff",
  jsonc: "json",
};

let core: Promise<HLJSApi> | undefined;

/** A piece of code in one colour; `style` is a class name, empty for plain text. */
export interface Stretch {
  readonly style: string;
  readonly text: string;
}

const entities: Readonly<Record<string, string>> = {
  "&amp;": "&",
  "&lt;": "<",
  "&gt;": ">",
  "&quot;": '"',
  "&#x27;": "'",
};

/** Reads the marked text back into stretches, so that it never becomes markup of the page. */
export const stretchesOf = (marked: string): readonly Stretch[] => {
  const found: Stretch[] = [];
  const styles: string[] = [];
  for (const [piece, style] of marked.matchAll(/<span class="([^"]*)">|<\/span>|[^<]+/g)) {
    if (style !== undefined) styles.push(style);
    else if (piece === "</span>") styles.pop();
    else {
      const text = piece.replace(/&(?:amp|lt|gt|quot|#x27);/g, (entity) => entities[entity] ?? entity);
      found.push({ style: styles.at(-1) ?? "", text });
    }
  }
  return found;
};

const longest = 20_000;

/** Colours code; null for a language it does not know and for code that is too long. Each language is loaded once. */
export const highlight = async (language: string, code: string): Promise<readonly Stretch[] | null> => {
  const asked = language.toLowerCase();
  const name = aliases[asked] ?? asked;
  const loader = Object.hasOwn(loaders, name) ? loaders[name] : undefined;
  if (loader === undefined || code.length > longest) return null;
  core ??= import("highlight.js/lib/core").then((module) => module.default);
  const hljs = await core;
  if (hljs.getLanguage(name) === undefined) hljs.registerLanguage(name, (await loader()).default);
  return stretchesOf(hljs.highlight(code, { language: name, ignoreIllegals: true }).value);
};
