// Imports of the server flow one way (ARCHITECTURE.md). An own check, because dependency-cruiser needs the
// compiler API that TypeScript 7 does not have yet (docs/decisions/0001-toolchain.md).
import { readdirSync, readFileSync } from "node:fs";
import { dirname, join, relative, resolve } from "node:path";
import { fileURLToPath } from "node:url";

/** Lower rows know nothing of higher ones; within a row any order that makes no cycle. */
const rows = [
  // Who acts and how a refusal is told: named by everyone, importing nothing.
  ["errors.ts", "auth/actor.ts"],
  ["lib"],
  ["config"],
  ["telemetry"],
  ["db", "http"],
  ["auth", "outbox", "providers", "page"],
  ["policy", "quota", "usage", "audit", "context"],
  ["chats"],
  ["messages", "attachments"],
  ["search", "export", "retrieval"],
  ["summaries"],
  ["turns"],
  // The composition root and what only it may use.
  ["app", "app.ts", "database.ts", "version.ts", "commands", "main.ts"],
];

const rankOf = (file) => {
  const exact = rows.findIndex((row) => row.includes(file));
  return exact >= 0 ? exact : rows.findIndex((row) => row.includes(file.split("/")[0]));
};

/** What a module imports or re-exports, types included; Biome's formatting makes these lines regular. */
export const importsOf = (source) =>
  [
    ...source.matchAll(/^(?:import|export)\s(?:[^"';]*?\sfrom\s+)?"([^"]+)"/gms),
    ...source.matchAll(/\bimport\(\s*"([^"]+)"\s*\)/g),
  ].map((match) => match[1]);

const sourcesBelow = (dir) =>
  readdirSync(dir, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile() && entry.name.endsWith(".ts"))
    .map((entry) => relative(dir, join(entry.parentPath ?? entry.path, entry.name)))
    .sort();

const graphOf = (dir) =>
  new Map(
    sourcesBelow(dir).map((file) => [
      file,
      importsOf(readFileSync(join(dir, file), "utf8"))
        .filter((target) => target.startsWith("."))
        .map((target) => relative(dir, resolve(dir, dirname(file), target))),
    ]),
  );

const directionProblems = (graph) => {
  const problems = [];
  for (const [file, targets] of graph) {
    const rank = rankOf(file);
    if (rank < 0) problems.push(`${file}: this folder has no row in scripts/import-direction.mjs`);
    for (const target of targets) {
      if (target.startsWith("..")) problems.push(`${file} imports ${target}: outside the package's sources`);
      else if (!graph.has(target)) problems.push(`${file} imports ${target}: no such file`);
      else if (rankOf(target) > rank) problems.push(`${file} imports ${target}: against the direction`);
    }
  }
  return problems;
};

/** Every import that closes a circle, as the path around it; depth first. */
const cycleProblems = (graph) => {
  const problems = [];
  const done = new Set();
  const visit = (file, path) => {
    const start = path.indexOf(file);
    if (start >= 0) problems.push(`cycle: ${[...path.slice(start), file].join(" -> ")}`);
    if (start >= 0 || done.has(file)) return;
    for (const target of graph.get(file) ?? []) visit(target, [...path, file]);
    done.add(file);
  };
  for (const file of graph.keys()) visit(file, []);
  return problems;
};

/** All violations below a source folder, one line each; empty when the house is in order. */
export const violations = (dir) => {
  const graph = graphOf(dir);
  return [...directionProblems(graph), ...cycleProblems(graph)];
};

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const found = violations(fileURLToPath(new URL("../packages/server/src", import.meta.url)));
  for (const line of found) console.error(line);
  process.exitCode = found.length === 0 ? 0 : 1;
}
