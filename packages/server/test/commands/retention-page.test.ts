import { afterAll, beforeAll, expect, test } from "vitest";
import { retentionJobs } from "../../src/app/retention.ts";
import { blockers } from "../../src/chats/purge.ts";
import { parseConfig } from "../../src/config/schema.ts";
import type { Db } from "../../src/db/pool.ts";
import { noLogger } from "../../src/telemetry/log.ts";
import { noMetrics } from "../../src/telemetry/metrics.ts";
import { enqueuing } from "../retention/support.ts";
import { testConfigTree } from "../support/config.ts";
import { createTestDatabase, type TestDatabase } from "../support/database.ts";
import { readPage, stepsOf } from "./page.ts";
import { type CommandLine, commandLine } from "./support.ts";

/** Follows docs/retention.md word by word, in the order of the page. */

const page = readPage("retention.md");

let database: TestDatabase;
let db: Db;
let cli: CommandLine;
beforeAll(async () => {
  database = await createTestDatabase();
  db = database.db;
  cli = commandLine(database.url);
});
afterAll(async () => {
  cli.remove();
  await database.drop();
});

const insertChat = async (
  no: number,
  tenant: "a" | "b",
  deletedDaysAgo: number,
): Promise<readonly string[]> => {
  const id = `${tenant.repeat(8)}-0000-4000-8000-000000000${no}`;
  const tenantId = `${tenant.repeat(8)}-0000-4000-8000-00000000000${tenant === "a" ? 1 : 2}`;
  await db.query(
    `insert into chats (id, tenant_id, user_id, model, deleted_at)
     values ($1, $2, gen_random_uuid(), 'm', now() - make_interval(days => $3))`,
    [id, tenantId, deletedDaysAgo],
  );
  return [id, tenantId];
};

const follow = async (heading: string): Promise<void> => {
  const steps = stepsOf(page, heading);
  expect(steps.length).toBeGreaterThan(0);
  for (const { commands, output } of steps) {
    const words = commands.trim().split(/\s+/);
    expect([words[0], ...words.slice(-2)]).toEqual(["mini-chat", "--config", "mini-chat.yaml"]);
    const { code, stdout, stderr } = await cli.start(...words.slice(1, -2));
    expect([code, stdout], stderr).toEqual([0, output]);
  }
};

test("the page does as it says", async () => {
  await insertChat(101, "a", 40);
  await insertChat(102, "b", 39);
  const failed = await insertChat(103, "b", 38);
  const store = await insertChat(104, "a", 37);
  await insertChat(105, "a", 3);
  await db.query(
    `insert into attachments (id, tenant_id, chat_id, uploaded_by_user_id, filename, content_type, size_bytes,
       storage_backend, provider_id, status, attachment_kind, cleanup_status)
     values (gen_random_uuid(), $2, $1, gen_random_uuid(), 'a', 'text/plain', 1, 'sim', 'sim', 'pending',
       'document', 'failed')`,
    failed,
  );
  await db.query(
    `insert into chat_vector_stores (id, chat_id, tenant_id, provider, provider_id)
     values (gen_random_uuid(), $1, $2, 'sim', 'sim')`,
    store,
  );
  for (const heading of ["See what would go", "Purge now", "Purge one by force"]) await follow(heading);
  const { rows } = await db.query<{ id: string }>("select id from chats order by id");
  expect(rows.map(({ id }) => id.slice(-3))).toEqual(["104", "105"]);
});

test("the page names every reason and every job", async () => {
  const reasons = [...page.matchAll(/^\| `(\w+)` \|/gm)].map(([, reason]) => reason);
  expect(reasons).toEqual(["reason", ...blockers]);
  const tree = testConfigTree({ databaseUrl: database.url, simulatorPort: 1 });
  const config = parseConfig(tree as object);
  const outbox = await enqueuing(db);
  const jobs = retentionJobs({ config, db, outbox, metrics: noMetrics, logger: noLogger });
  const line = page.split("\n").find((text) => text.includes("mini_chat_leader")) ?? "";
  expect(jobs.filter(({ name }) => !line.includes(`\`${name}\``))).toEqual([]);
});
