import { readFileSync } from "node:fs";
import { type Document, isMap, isScalar, isSeq, LineCounter, parseDocument, type YAMLError } from "yaml";
import type { Problem } from "./check.ts";
import { dottedKey } from "./schema.ts";
import { isTree, type Tree, type TreePath } from "./tree.ts";

/** What a configuration starts from, with what is already wrong with it; null when it is unusable. */
export interface Layer {
  readonly tree: Tree | null;
  readonly problems: readonly Problem[];
}

/** Reads a YAML or JSON file. Texts of the file never get into a problem: they may be secrets. */
export const readConfigFile = (file: string): Layer => {
  const broken = (message: string): Problem => ({ key: file, message });
  let text: string;
  try {
    text = readFileSync(file, "utf8");
  } catch (error) {
    return { tree: null, problems: [broken(`cannot be read: ${reasonOf(error)}`)] };
  }
  const lines = new LineCounter();
  // JSON is read as the YAML it is. Repeated keys are looked for below, with their full name.
  const document = parseDocument(text, {
    lineCounter: lines,
    prettyErrors: false,
    stringKeys: true,
    uniqueKeys: false,
    logLevel: "error",
  });
  const faults = [...document.errors, ...document.warnings];
  if (faults.length > 0)
    return { tree: null, problems: faults.map((fault) => broken(describe(fault, lines))) };
  const tree = plainTree(document);
  if (tree === null) return { tree, problems: [broken("has an alias that cannot be resolved")] };
  if (!isTree(tree)) return { tree: null, problems: [broken("must be a map of keys")] };
  return { tree, problems: repeatedKeys(document.contents, []) };
};

const reasons: Readonly<Record<string, string>> = {
  ENOENT: "no such file",
  EACCES: "permission denied",
  EISDIR: "it is a directory",
};

const reasonOf = (error: unknown): string => {
  const code = error instanceof Error && "code" in error ? String(error.code) : "unknown error";
  return reasons[code] ?? code;
};

const describe = (fault: YAMLError, lines: LineCounter): string => {
  const { line, col } = lines.linePos(fault.pos[0]);
  // Some messages end with the text that was found.
  return `line ${line}, column ${col}: ${fault.message.replace(/(?::| %| \\).*/s, "")}`;
};

/** The document as plain values; null when an alias has no anchor, contains itself or explodes. */
const plainTree = (document: Document.Parsed): unknown => {
  try {
    const value: unknown = document.toJS() ?? {};
    JSON.stringify(value);
    return value;
  } catch {
    return null;
  }
};

const repeatedKeys = (node: unknown, path: TreePath): Problem[] => {
  if (isSeq(node)) return node.items.flatMap((item, at) => repeatedKeys(item, [...path, at]));
  if (!isMap(node)) return [];
  const seen = new Set<string>();
  return node.items.flatMap((pair) => {
    const key = String(isScalar(pair.key) ? pair.key.value : pair.key);
    const here = [...path, key];
    const repeated = seen.has(key) ? [{ key: dottedKey(here), message: "is in the file twice" }] : [];
    seen.add(key);
    return [...repeated, ...repeatedKeys(pair.value, here)];
  });
};
