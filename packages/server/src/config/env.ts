import { Secret } from "./secret.ts";
import { isTree, type Tree } from "./tree.ts";

/** Environment variables by name. */
export type Env = Readonly<Record<string, string | undefined>>;

/** The environment of this process. Nothing else reads `process.env`. */
export const processEnv = (): Env => process.env;

/** One setting from outside the file, its value still text. */
export interface Override {
  /** How the operator spelled it: the variable or the flag. */
  readonly source: string;
  /** The keys from the root; null when the source names none. */
  readonly path: ((tree: Tree) => readonly string[]) | null;
  readonly text: string;
}

const PREFIX = "MINI_CHAT__";

/**
 * The variables `MINI_CHAT__SECTION__KEY` (ops.md §2.1), sections before what is in them. A variable's
 * name cannot spell every map key, so each part means a key that is there already and differs only in
 * case and punctuation, then a tenant id with `_` for `-`, and otherwise its own lower case.
 */
export const environmentOverrides = (env: Env): readonly Override[] =>
  Object.entries(env)
    .flatMap(([source, text]) => (source.startsWith(PREFIX) && text !== undefined ? [{ source, text }] : []))
    .map(({ source, text }) => ({ source, text, parts: source.slice(PREFIX.length).split("__") }))
    .sort((a, b) => a.parts.length - b.parts.length || (a.source < b.source ? -1 : 1))
    .map(({ source, text, parts }) => ({
      source,
      text,
      path: parts.includes("") ? null : (tree) => spelledAsIn(tree, parts),
    }));

const plain = (key: string): string => key.toLowerCase().replace(/[^a-z0-9]/g, "_");

const tenantId = /^([0-9a-f]{8})_([0-9a-f]{4})_([0-9a-f]{4})_([0-9a-f]{4})_([0-9a-f]{12})$/;

const spelledAsIn = (tree: Tree, parts: readonly string[]): readonly string[] => {
  let inside: unknown = tree;
  return parts.map((part) => {
    const lower = part.toLowerCase();
    const keys = isTree(inside) ? Object.keys(inside) : [];
    const key =
      keys.find((known) => known === lower) ??
      keys.find((known) => plain(known) === plain(part)) ??
      lower.replace(tenantId, "$1-$2-$3-$4-$5");
    inside = isTree(inside) && Object.hasOwn(inside, key) ? inside[key] : undefined;
    return key;
  });
};

/** `${NAME}` replaced by the variable, once: what it brings is not searched again. */
export const replaceNames = (
  text: string,
  env: Env,
): { readonly text: string; readonly unset: readonly string[] } => {
  const unset: string[] = [];
  const replaced = text.replace(/\$\{([^${}]*)\}/g, (reference, name: string) => {
    const value = env[name];
    if (value === undefined) unset.push(name);
    return value ?? reference;
  });
  return { text: replaced, unset };
};

const secretIn = (env: Env, name: string): Secret | null => {
  // A final line break, as files and secret stores add one, would make a header invalid.
  const text = env[name]?.trim() ?? "";
  return text === "" ? null : new Secret(text);
};

/**
 * Resolves the secret references of provider entries (providers.md §8.4). A reference is looked up as
 * `MINI_CHAT_SECRET_<REF>`, upper case and `_` for everything but letters and digits; `openai-key` is
 * `OPENAI_API_KEY` first. Null when it is unset or blank.
 */
export const secretSource =
  (env: Env) =>
  (reference: string): Secret | null => {
    const usual = reference === "openai-key" ? secretIn(env, "OPENAI_API_KEY") : null;
    return usual ?? secretIn(env, `MINI_CHAT_SECRET_${plain(reference).toUpperCase()}`);
  };
