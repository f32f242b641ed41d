import { execFileSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "vitest";

const root = join(import.meta.dirname, "../../../..");
const told = execFileSync("git", ["ls-files", "*.md", "examples"], { cwd: root, encoding: "utf8" })
  .split("\n")
  .filter((path) => path !== "");

test("every command that runs TypeScript takes the Node of the dependencies", () => {
  const commands = told.flatMap((path) =>
    [...readFileSync(join(root, path), "utf8").matchAll(/(?:npx )?\bnode [\w./-]+\.ts\b/g)].map(
      ([command]) => `${path}: ${command}`,
    ),
  );
  expect(commands.length).toBeGreaterThan(0);
  expect(commands.filter((command) => !command.includes(": npx node "))).toEqual([]);
});
