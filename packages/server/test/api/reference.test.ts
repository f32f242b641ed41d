import { execFileSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { expect, test } from "vitest";

const script = fileURLToPath(new URL("../../../../scripts/api-reference.mjs", import.meta.url));
const file = fileURLToPath(new URL("../../../../docs/api.md", import.meta.url));

test("docs/api.md is made from docs/openapi.json; UPDATE_SNAPSHOTS=1 rewrites it", () => {
  if (process.env["UPDATE_SNAPSHOTS"] === "1") execFileSync(process.execPath, [script, "--write"]);
  expect(readFileSync(file, "utf8")).toBe(execFileSync(process.execPath, [script], { encoding: "utf8" }));
});
