/** A configuration before it is checked: maps of maps, lists and scalars, keys spelled as in the file. */
export type Tree = Readonly<Record<string, unknown>>;

/** A map, as opposed to a list or a scalar. */
export const isTree = (value: unknown): value is Tree =>
  typeof value === "object" && value !== null && !Array.isArray(value);

/** Lays one value over another: maps are merged key by key, lists and scalars replaced. */
export const overlay = (below: unknown, above: unknown): unknown => {
  if (!isTree(below) || !isTree(above)) return above;
  // From entries, because assigning a key `__proto__` would not make one.
  const merged = new Map(Object.entries(below));
  for (const [key, value] of Object.entries(above)) {
    merged.set(key, merged.has(key) ? overlay(merged.get(key), value) : value);
  }
  return Object.fromEntries(merged);
};

/** The tree with the value laid over what is at the path. */
export const overlayAt = (tree: Tree, path: readonly string[], value: unknown): Tree => {
  const nested = path.reduceRight<unknown>((inner, key) => ({ [key]: inner }), value);
  const result = overlay(tree, nested);
  return isTree(result) ? result : tree;
};

export type TreePath = readonly (string | number)[];

/** The tree with every text in it, list elements included, replaced by what `change` makes of it. */
export const mapTexts = (tree: Tree, change: (text: string, path: TreePath) => unknown): Tree => {
  const map = (value: unknown, path: TreePath): unknown => {
    if (typeof value === "string") return change(value, path);
    if (Array.isArray(value)) return value.map((item: unknown, at) => map(item, [...path, at]));
    return isTree(value) ? members(value, path) : value;
  };
  const members = (value: Tree, path: TreePath): Tree =>
    Object.fromEntries(Object.entries(value).map(([key, item]) => [key, map(item, [...path, key])]));
  return members(tree, []);
};
