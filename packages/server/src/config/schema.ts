import type { z } from "zod";
import { crossCheck, type Problem, UNKNOWN_PROVIDER } from "./check.ts";
import { type Config, configDocument } from "./document.ts";

export type { Config } from "./document.ts";

/** Every problem of a configuration at once; the process ends with exit code 2 (ops.md §1). */
export class ConfigError extends Error {
  override name = "ConfigError";
  readonly problems: readonly Problem[];

  constructor(problems: readonly Problem[]) {
    super(["invalid configuration:", ...problems.map((p) => `  ${p.key}: ${p.message}`)].join("\n"));
    this.problems = problems;
  }
}

/** A valid configuration with what is doubtful about it, or everything that is wrong with it. */
export type Verdict =
  | { readonly config: Config; readonly warnings: readonly Problem[] }
  | { readonly problems: readonly Problem[] };

/**
 * Checks a configuration tree against ops.md §2–3 and fills in the defaults. Reports all problems in
 * one pass: the rules between keys are also applied when single keys are wrong, to the tree without
 * those keys, so that a typo does not hide a missing one.
 */
export function judgeConfig(input: object): Verdict {
  const parsed = configDocument.safeParse(input);
  if (parsed.success) {
    const { problems, warnings } = crossCheck(parsed.data);
    return problems.length > 0 ? { problems } : { config: parsed.data, warnings };
  }
  const problems = parsed.error.issues.flatMap(toProblems);
  const known = new Set(problems.map((problem) => problem.key));
  const further = remainingFindings(input, parsed.error.issues).filter(({ key }) => !known.has(key));
  return { problems: [...problems, ...further] };
}

// Removing a wrong key may leave its section incomplete, so the section goes in the next round.
const REMOVAL_ROUNDS = 5;

const remainingFindings = (input: object, firstIssues: readonly Issue[]): readonly Problem[] => {
  const rest = structuredClone(input);
  let issues = firstIssues;
  for (let round = 0; round < REMOVAL_ROUNDS; round += 1) {
    removeFaulty(rest, issues);
    const parsed = configDocument.safeParse(rest);
    if (parsed.success) {
      const { problems } = crossCheck(parsed.data);
      // A provider taken out here is configured, only wrongly.
      return firstIssues.some((issue) => issue.path[0] === "providers")
        ? problems.filter(({ message }) => !message.startsWith(UNKNOWN_PROVIDER))
        : problems;
    }
    issues = parsed.error.issues;
  }
  return [];
};

/** The configuration with its defaults. Throws `ConfigError` with every problem. */
export function parseConfig(input: object): Config {
  const verdict = judgeConfig(input);
  if ("problems" in verdict) throw new ConfigError(verdict.problems);
  return verdict.config;
}

type Issue = z.core.$ZodIssue;

/** `["auth", "tokens", 0, "token"]` as `auth.tokens[0].token`. */
export const dottedKey = (path: readonly PropertyKey[]): string =>
  path
    .map((part, at) => (typeof part === "number" ? `[${part}]` : `${at ? "." : ""}${String(part)}`))
    .join("");

// Own texts where zod would name the key without its section, or quote a value.
const toProblems = (issue: Issue): Problem[] => {
  if (issue.code === "unrecognized_keys") {
    return issue.keys.map((key) => ({ key: dottedKey([...issue.path, key]), message: "unknown key" }));
  }
  return [{ key: dottedKey(issue.path), message: issue.message.replace(/^Invalid input: /, "") }];
};

const removeFaulty = (root: object, issues: readonly Issue[]): void => {
  for (const issue of issues) {
    const names = issue.code === "unrecognized_keys" ? issue.keys : [];
    if (names.length === 0) removePath(root, issue.path);
    for (const name of names) removePath(root, [...issue.path, name]);
  }
};

/** Deletes the member at the path; when it is the missing of a required one, the section it belongs to. */
const removePath = (root: object, path: readonly PropertyKey[]): void => {
  let parent: unknown = root;
  for (const part of path.slice(0, -1)) {
    parent = typeof parent === "object" && parent !== null ? Reflect.get(parent, part) : undefined;
  }
  const last = path.at(-1);
  if (last === undefined) return;
  if (typeof parent !== "object" || parent === null || Reflect.get(parent, last) === undefined) {
    removePath(root, path.slice(0, -1));
  } else {
    Reflect.deleteProperty(parent, last);
  }
};
