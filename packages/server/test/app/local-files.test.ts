import { expect, test } from "vitest";
import { sweepGraceSecs } from "../../src/app/local-files.ts";
import { parseConfig } from "../../src/config/schema.ts";
import { overlay, type Tree } from "../../src/config/tree.ts";
import { testConfigTree } from "../support/config.ts";

const graceWith = (change: Tree): number => {
  const tree = testConfigTree({ databaseUrl: "postgres://localhost/none", simulatorPort: 1 });
  return sweepGraceSecs(parseConfig(overlay(tree, change) as object));
};

test.each([
  { name: "an hour at least", change: {}, secs: 3_600 },
  { name: "twice what any upload may take", change: { egress: { upload_timeout_secs: 3_000 } }, secs: 6_000 },
  {
    name: "also where a provider alone allows that",
    change: { providers: { sim: { timeouts: { upload_timeout_secs: 3_600 } } } },
    secs: 7_200,
  },
])("local files are swept after $name", ({ change, secs }) => {
  expect(graceWith(change)).toBe(secs);
});
