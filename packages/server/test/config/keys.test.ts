import { expect, test } from "vitest";
import { configKeys } from "../../src/config/reference.ts";
import { judgeConfig } from "../../src/config/schema.ts";
import { type KeyRow, REQUIRED } from "./key-row.ts";
import { keyTable } from "./keys.ts";
import { configWith, removeKey, setKey, spelled, valueAt } from "./support.ts";

/** The value in force; throws what is wrong when the configuration is not valid. */
const effective = (input: object, key: string): unknown => {
  const verdict = judgeConfig(input);
  if ("problems" in verdict) throw new Error(JSON.stringify(verdict.problems));
  return valueAt(verdict.config, key);
};

const problemKeys = (input: object): readonly string[] => {
  const verdict = judgeConfig(input);
  return "problems" in verdict ? verdict.problems.map(({ key }) => key) : [];
};

/** What makes a section of its own exist, so that its defaults can be looked at. */
const without = (row: KeyRow): Record<string, unknown> => {
  const tree = configWith(row.with);
  removeKey(tree, row.key);
  return tree;
};

const byKey = (rows: readonly KeyRow[]): [string, KeyRow][] => rows.map((row) => [row.key, row]);

const withValue = (row: KeyRow, value: unknown): Record<string, unknown> => {
  const tree = configWith(row.with);
  setKey(tree, row.key, value);
  return tree;
};

test("the specification's table and the schema have the same keys", () => {
  const inSchema = configKeys().map(({ key }) => key);
  expect(inSchema.sort()).toEqual(keyTable.map(({ key }) => key).sort());
});

const optional = keyTable.filter(({ fallback }) => fallback !== REQUIRED);
test.each(byKey(optional))("default of %s", (key, row) => {
  // `auth` exists with its kind only: without one there is no value to look at.
  const tree = key.endsWith("auth.kind") ? configWith({}) : without(row);
  expect(effective(tree, key)).toEqual(row.fallback);
});

const required = keyTable.filter(({ fallback }) => fallback === REQUIRED);
test.each(byKey(required))("%s is required", (key, row) => {
  expect(problemKeys(without(row))).toContain(spelled(key));
});

test.each(byKey(keyTable))("%s accepts what is valid, both ends of its range included", (key, row) => {
  expect(row.good.map((value) => effective(withValue(row, value), key))).toEqual(row.good);
});

test.each(byKey(keyTable))("%s refuses one step outside and wrong types, by its name", (key, row) => {
  const name = spelled(key);
  const unnoticed = row.bad.filter(
    (value) =>
      // A wrong element is named itself.
      !problemKeys(withValue(row, value)).some((found) => found === name || found.startsWith(`${name}[`)),
  );
  expect(unnoticed).toEqual([]);
});

test.each(byKey(keyTable))("a sibling of %s nobody knows is refused by its name", (key, row) => {
  const tree = configWith(row.with);
  setKey(tree, `${key}_x`, 1);
  expect(problemKeys(tree)).toEqual([spelled(`${key}_x`)]);
});
