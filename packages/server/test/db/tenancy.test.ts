import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { expect, test } from "vitest";

const sources = fileURLToPath(new URL("../../src", import.meta.url));

/** Tables whose rows belong to a tenant (data.md §2.1–2.10). */
const tables = [
  "chats",
  "messages",
  "chat_turns",
  "attachments",
  "message_attachments",
  "thread_summaries",
  "chat_vector_stores",
  "quota_usage",
  "message_reactions",
  "turn_events",
  "local_stores",
  "local_files",
  "local_file_pieces",
  "local_chunks",
];

/** Select ids only, across tenants (data.md §5 rule 4). */
const scans = new Set([
  "turn_scan_orphans",
  "attachments_scan_stale",
  "attachments_scan_forgotten",
  "attachments_scan_backlog",
  "attachments_scan_failed",
  "attachments_scan_owned",
  "attachments_scan_debt",
  "vector_stores_scan_known",
  "vector_stores_scan_debt",
  "turn_log_scan_expired",
  "chat_scan_expired",
  "chat_scan_deleted",
  "chat_find_across_tenants",
  "quota_scan_expired",
  "local_files_next",
]);

/** The query block that begins at the table's name: to the end of its parenthesis, union or text. */
const blockFrom = (text: string): string => {
  let depth = 0;
  for (const [at, sign] of [...text].entries()) {
    if (sign === "(") depth += 1;
    if (sign === ")") depth -= 1;
    if (depth < 0 || sign === "`" || sign === '"') return text.slice(0, at);
    if (depth === 0 && text.startsWith("union", at)) return text.slice(0, at);
  }
  return text;
};

interface Block {
  readonly file: string;
  readonly statement: string;
  readonly text: string;
}

const blocks: Block[] = readdirSync(sources, { recursive: true, encoding: "utf8" })
  .filter((file) => file.endsWith(".ts"))
  .flatMap((file) => {
    const source = readFileSync(join(sources, file), "utf8");
    const uses = source.matchAll(new RegExp(`\\b(?:from|update|join)\\s+(?:${tables.join("|")})\\b`, "g"));
    return [...uses].map(({ index }) => ({
      file,
      statement:
        source
          .slice(0, index)
          .match(/name: "(\w+)"/g)
          ?.at(-1)
          ?.slice(7, -1) ?? "",
      text: blockFrom(source.slice(index)),
    }));
  })
  // Prose says "from messages" as well.
  .filter(({ text }) => /\bwhere\b/.test(text));

test("every query on a tenant's table names the tenant, sub-selects included (data.md §5 rule 1)", () => {
  expect(blocks.length).toBeGreaterThan(30);
  const without = blocks.filter(
    ({ statement, text }) => !scans.has(statement) && !text.includes("tenant_id"),
  );
  expect(without).toEqual([]);
});
