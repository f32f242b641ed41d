import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { fileURLToPath } from "node:url";
import { afterAll, afterEach, beforeAll, expect, test } from "vitest";
import { findExcerpts } from "../../src/retrieval/find.ts";
import { startIndexer } from "../../src/retrieval/indexer.ts";
import { sweepLocalFiles } from "../../src/retrieval/sweep.ts";
import { createTestDatabase, type TestDatabase } from "../support/database.ts";
import { extracted, mime } from "./support.ts";
import { createAttachment, createChat, rowsOf, type TestChat } from "./world.ts";

const script = fileURLToPath(new URL("./victim.ts", import.meta.url));
const sentence = "A sentence of a long story. ";

let database: TestDatabase;
let victim: ChildProcess | undefined;
beforeAll(async () => {
  database = await createTestDatabase();
});
afterEach(() => {
  victim?.kill("SIGKILL");
});
afterAll(() => database.drop());

/** Starts the process and kills it as soon as the file has rows of the kind. */
const killWhen = async (
  kind: "pieces" | "chunks",
  mode: "upload" | "index",
): Promise<{ chat: TestChat; fileId: string; attachmentId: string }> => {
  const chat = await createChat(database.db);
  const attachmentId = await createAttachment(database.db, chat);
  const child = spawn(
    process.execPath,
    [script, database.url, chat.tenantId, chat.chatId, attachmentId, mode, sentence],
    { stdio: ["ignore", "ignore", "inherit"] },
  );
  victim = child;
  const gone = once(child, "exit");
  const giveUpAt = Date.now() + 25_000;
  for (;;) {
    if (Date.now() > giveUpAt) throw new Error("the process does nothing");
    const { rows } = await database.db.query<{ id: string }>(
      "select id from local_files where chat_id = $1",
      [chat.chatId],
    );
    const fileId = rows[0]?.id;
    if (fileId === undefined || ((await rowsOf(database.db, fileId))[kind] ?? 0) < 2) continue;
    child.kill("SIGKILL");
    expect(await gone).toEqual([null, "SIGKILL"]);
    return { chat, fileId, attachmentId };
  }
};

test("killed during an upload: the pieces are no file, and the sweep removes them", async () => {
  const { fileId } = await killWhen("pieces", "upload");
  const { rows } = await database.db.query("select bytes, index_status from local_files where id = $1", [
    fileId,
  ]);
  expect(rows).toEqual([{ bytes: null, index_status: null }]);
  await database.db.query("update local_files set created_at = now() - interval '2 hours' where id = $1", [
    fileId,
  ]);
  expect(await sweepLocalFiles(database.db, { graceSecs: 3_600, limit: 10 })).toBe(1);
  expect(await rowsOf(database.db, fileId)).toEqual({ files: 0, pieces: 0, chunks: 0 });
});

test("killed during an extraction: half of it is not found; another process does it over", async () => {
  const { chat, fileId, attachmentId } = await killWhen("chunks", "index");
  await database.db.query("update attachments set status = 'ready', provider_file_id = $1 where id = $2", [
    fileId,
    attachmentId,
  ]);
  const find = () =>
    findExcerpts(database.db, chat.tenantId, chat.chatId, "story", { maxBytes: 4_000, maxResults: 1 });
  expect(await find()).toEqual([]);

  await database.db.query("update local_files set index_claimed_until = now() where id = $1", [fileId]);
  const indexer = startIndexer(database.db, {
    onError: (error) => {
      throw error;
    },
  });
  await indexer.run();
  await indexer.stop();
  const { chunks } = await extracted(mime.txt, sentence.repeat(100_000));
  const { rows } = await database.db.query(
    `select f.index_status, f.chunks, f.index_attempts, count(c.no)::int as stored, max(c.no) + 1 as numbered
     from local_files f join local_chunks c on c.file_id = f.id
     where f.id = $1
     group by f.id`,
    [fileId],
  );
  expect(rows).toEqual([
    { index_status: "completed", chunks, index_attempts: 2, stored: chunks, numbered: chunks },
  ]);
  expect(await find()).toHaveLength(1);
}, 60_000);
