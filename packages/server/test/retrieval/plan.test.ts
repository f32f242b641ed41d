import { randomUUID } from "node:crypto";
import { afterAll, beforeAll, expect, test } from "vitest";
import type { Db } from "../../src/db/pool.ts";
import { findExcerpts } from "../../src/retrieval/find.ts";
import { createTestDatabase, type TestDatabase } from "../support/database.ts";
import { createAttachment, createChat, type TestChat } from "./world.ts";

const chats = 120;
let database: TestDatabase;
let own: TestChat;

/** A chat with a ready document of so many chunks, all of which say the same. */
const fill = async (chunks: number): Promise<TestChat> => {
  const chat = await createChat(database.db);
  const attachmentId = await createAttachment(database.db, chat);
  const fileId = randomUUID();
  await database.db.query("update attachments set status = 'ready', provider_file_id = $2 where id = $1", [
    attachmentId,
    fileId,
  ]);
  await database.db.query("insert into local_stores (id, tenant_id, provider_id) values ($1, $2, 'p')", [
    fileId,
    chat.tenantId,
  ]);
  await database.db.query(
    `insert into local_files (id, tenant_id, chat_id, attachment_id, provider_id, name, content_type, bytes, store_id, index_status, chunks)
     values ($1, $2, $3, $4, 'p', 'n', 'text/plain', 1, $1, 'completed', $5)`,
    [fileId, chat.tenantId, chat.chatId, attachmentId, chunks],
  );
  await database.db.query(
    `insert into local_chunks (tenant_id, chat_id, file_id, no, content, overlap, place_kind, place_from, place_to, words)
     select $1, $2, $3, no, 'the needle no. ' || no, 0, 'line', no, no,
       to_tsvector('simple', 'the needle no ' || no || ' ' || repeat('hay ' || no || ' ', 20))
     from generate_series(0, $4::int - 1) as no`,
    [chat.tenantId, chat.chatId, fileId, chunks],
  );
  return chat;
};

beforeAll(async () => {
  database = await createTestDatabase();
  own = await fill(300);
  for (let at = 1; at < chats; at += 1) await fill(100);
  await database.db.query("vacuum analyze local_chunks");
});
afterAll(() => database.drop());

interface Plan {
  readonly "Node Type": string;
  readonly "Relation Name"?: string;
  readonly "Index Name"?: string;
  readonly "Rows Removed by Filter"?: number;
  readonly Plans?: readonly Plan[];
}

const nodesOf = (plan: Plan): Plan[] => [plan, ...(plan.Plans ?? []).flatMap(nodesOf)];

const plansOf = async (question: string): Promise<Plan[]> => {
  const issued: { text: string; values: readonly unknown[] }[] = [];
  const recording = Object.assign(Object.create(database.db) as Db, {
    run: (...[client, statement, values]: Parameters<Db["run"]>) => {
      if (typeof statement === "string") issued.push({ text: statement, values });
      return database.db.run(client, statement, values);
    },
  });
  const found = await findExcerpts(recording, own.tenantId, own.chatId, question, {
    maxBytes: 4_000,
    maxResults: 3,
  });
  expect(found.length > 0).toBe(question !== "nothing");
  expect(issued).toHaveLength(1);
  return Promise.all(
    issued.map(async ({ text, values }) => {
      const { rows } = await database.db.query<{ "QUERY PLAN": { Plan: Plan }[] }>(
        `explain (analyze, format json) ${text}`,
        values,
      );
      const plan = rows[0]?.["QUERY PLAN"][0]?.Plan;
      if (plan === undefined) throw new Error("no plan");
      return plan;
    }),
  );
};

test.each(["needle", "the needle no 17", "17 18 19", "nothing"])(
  "%s: chunks are read by the index of words, and none of another chat is",
  async (question) => {
    const nodes = (await plansOf(question)).flatMap(nodesOf);
    const reads = nodes.filter((node) => node["Relation Name"] === "local_chunks");
    expect(nodes.some((node) => node["Index Name"] === "local_chunks_words_idx")).toBe(true);
    for (const read of reads) {
      expect(["Bitmap Heap Scan", "Index Scan"]).toContain(read["Node Type"]);
      expect(read["Rows Removed by Filter"] ?? 0).toBe(0);
    }
  },
);
