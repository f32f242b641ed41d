import { parseDocument } from "yaml";
import type { Problem } from "./check.ts";
import { type Env, environmentOverrides, type Override, replaceNames } from "./env.ts";
import { type Layer, readConfigFile } from "./file.ts";
import { dottedKey, judgeConfig, type Verdict } from "./schema.ts";
import { typesAt } from "./shape.ts";
import { mapTexts, overlayAt, type Tree, type TreePath } from "./tree.ts";

export interface LoadOptions {
  /** A YAML or JSON file. */
  readonly file?: string | undefined;
  readonly env: Env;
  /** Values by dotted key: `{ "server.bind_address": "127.0.0.1:80" }`. */
  readonly flags: Readonly<Record<string, string>>;
  /** What is configured where there is no file; see `developmentConfig`. */
  readonly base?: Layer | undefined;
}

/**
 * The configuration of a process (ops.md §2.1): the file, over it the environment, over that the flags,
 * then `${NAME}` in every text. Reports everything that is wrong at once and throws for none of it.
 */
export function loadConfig(options: LoadOptions): Verdict {
  const layer = options.file === undefined ? (options.base ?? nothing) : readConfigFile(options.file);
  if (layer.tree === null) return { problems: layer.problems };
  const laid = applyOverrides(layer.tree, [
    ...environmentOverrides(options.env),
    ...flagOverrides(options.flags),
  ]);
  const expanded = expandNames(laid.tree, options.env);
  const found = [...layer.problems, ...laid.problems, ...expanded.problems];
  const verdict = judgeConfig(expanded.tree);
  if ("config" in verdict) return found.length > 0 ? { problems: found } : verdict;
  // A value that could not be made out is not also a wrong value.
  const known = new Set(found.map(({ key }) => key));
  const further = verdict.problems.filter(({ key }) => !known.has(key));
  return { problems: [...found, ...further.map((problem) => withSource(problem, laid.sources))] };
}

const nothing: Layer = { tree: {}, problems: [] };

const flagOverrides = (flags: LoadOptions["flags"]): readonly Override[] =>
  Object.entries(flags).map(([key, text]) => {
    const path = key.split(".");
    return { source: `--${key}`, text, path: path.includes("") ? null : () => path };
  });

interface Laid {
  readonly tree: Tree;
  readonly problems: readonly Problem[];
  /** Where the value at a dotted key came from. */
  readonly sources: ReadonlyMap<string, string>;
}

const applyOverrides = (base: Tree, overrides: readonly Override[]): Laid => {
  let tree = base;
  const problems: Problem[] = [];
  const sources = new Map<string, string>();
  for (const { source, path: locate, text } of overrides) {
    const path = locate?.(tree);
    if (path === undefined) {
      problems.push({ key: source, message: "names no key: expected section and key" });
      continue;
    }
    const key = dottedKey(path);
    const value = readValue(text, path);
    if (value === undefined) problems.push({ key, message: `cannot be read (set by ${source})` });
    else tree = overlayAt(tree, path, value.read);
    sources.set(key, source);
  }
  return { tree, problems, sources };
};

/**
 * A value given as text: taken as it is where the key holds text, so that secrets need no quotes, and as
 * YAML or JSON everywhere else. `null` is null where the key may be null.
 */
const readValue = (text: string, path: TreePath): { readonly read: unknown } | undefined => {
  const types = typesAt(path);
  if (types.has("string")) return { read: text === "null" && types.has("null") ? null : text };
  const document = parseDocument(text, { prettyErrors: false, logLevel: "error" });
  if (document.errors.length + document.warnings.length > 0) return undefined;
  try {
    const read: unknown = document.toJS();
    JSON.stringify(read);
    return { read };
  } catch {
    return undefined;
  }
};

const expandNames = (tree: Tree, env: Env): { tree: Tree; problems: readonly Problem[] } => {
  const problems: Problem[] = [];
  const expanded = mapTexts(tree, (text, path) => {
    const { text: replaced, unset } = replaceNames(text, env);
    problems.push(...unset.map((name) => ({ key: dottedKey(path), message: unsetMessage(name) })));
    if (unset.length > 0 || replaced === text) return text;
    // `port: ${PORT}` is a number. Where anything may stand, as in a catalog entry, a text stays one.
    return typesAt(path).size === 0 ? replaced : (readValue(replaced, path)?.read ?? replaced);
  });
  return { tree: expanded, problems };
};

// What is not a name may be a piece of a secret that happens to hold "${".
const unsetMessage = (name: string): string =>
  /^[A-Za-z_][A-Za-z0-9_]*$/.test(name)
    ? `the environment variable ${name} is not set`
    : "holds a placeholder that is not the name of an environment variable";

const withSource = (problem: Problem, sources: ReadonlyMap<string, string>): Problem => {
  const source = sources.get(problem.key);
  return source === undefined ? problem : { ...problem, message: `${problem.message} (set by ${source})` };
};
