import { randomUUID } from "node:crypto";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { inTransaction } from "../../src/db/tx.ts";
import { type ProviderStorage, StorageError } from "../../src/providers/storage-contract.ts";
import { claimFile, insertChunks, settleIndexing } from "../../src/retrieval/chunk-store.ts";
import { extractionLimits } from "../../src/retrieval/extract/limits.ts";
import { findExcerpts } from "../../src/retrieval/find.ts";
import { type IndexedFile, type LocalIndexer, startIndexer } from "../../src/retrieval/indexer.ts";
import { createLocalStorage } from "../../src/retrieval/local-storage.ts";
import { readPiece } from "../../src/retrieval/store.ts";
import { sweepLocalFiles } from "../../src/retrieval/sweep.ts";
import { createTestDatabase, type TestDatabase } from "../support/database.ts";
import { encryptedPdf } from "./documents.ts";
import { inPieces, mime } from "./support.ts";
import {
  addDocument,
  contextOf,
  createAttachment,
  createChat,
  newTenant,
  rowsOf,
  type TestChat,
} from "./world.ts";

let database: TestDatabase;
let indexer: LocalIndexer;
let storage: ProviderStorage;
const errors: unknown[] = [];
const indexed: IndexedFile[] = [];
const idle = { run: async () => {} };

const storageOf = (given: Pick<LocalIndexer, "run">, providerId = "p"): ProviderStorage =>
  createLocalStorage({ db: database.db, indexer: given, providerId, storageBackend: "local" });

beforeAll(async () => {
  database = await createTestDatabase();
  indexer = startIndexer(database.db, {
    onError: (error) => errors.push(error),
    onIndexed: (file) => indexed.push(file),
    intervalMs: 3_600_000,
  });
  storage = storageOf(indexer);
});
afterAll(async () => {
  await indexer.stop();
  await database.drop();
  expect(errors).toEqual([]);
});

const upload = async (
  chat: TestChat,
  stream: AsyncIterable<Uint8Array>,
  more: { attachmentId?: string; signal?: AbortSignal; contentType?: string } = {},
) =>
  storage.files.upload(
    { ...contextOf(chat), ...(more.signal === undefined ? {} : { signal: more.signal }) },
    {
      name: `${chat.chatId}_${more.attachmentId ?? (await createAttachment(database.db, chat))}.pdf`,
      contentType: more.contentType ?? mime.txt,
      stream,
    },
  );

const filesOf = async ({ chatId }: TestChat): Promise<number> =>
  (await database.db.query("select 1 from local_files where chat_id = $1", [chatId])).rowCount;

const gone = { files: 0, pieces: 0, chunks: 0 };

const all = async <T>(items: AsyncIterable<T>): Promise<T[]> => {
  const list: T[] = [];
  for await (const item of items) list.push(item);
  return list;
};

describe("bytes", () => {
  test.each([1, 262_143, 262_144, 262_145, 1_000_000])("%i are kept as they came", async (size) => {
    const chat = await createChat(database.db);
    const sent = Buffer.alloc(size, "0123456789abcdefg");
    const { providerFileId, bytes } = await upload(chat, inPieces(sent, 70_001));
    expect(bytes).toBe(size);
    const pieces: Buffer[] = [];
    for (let no = 0; ; no += 1) {
      const piece = await readPiece(database.db, chat.tenantId, providerFileId, no);
      if (piece === undefined) break;
      pieces.push(piece);
    }
    expect(Buffer.concat(pieces).equals(sent)).toBe(true);
  });

  test("an error of the stream is thrown on, and nothing stays", async () => {
    const chat = await createChat(database.db);
    const error = new Error("too large");
    async function* failing(): AsyncGenerator<Uint8Array> {
      yield new Uint8Array(600_000);
      throw error;
    }
    await expect(upload(chat, failing())).rejects.toBe(error);
    expect(await filesOf(chat)).toBe(0);
  });

  test("an aborted upload ends, and nothing stays", async () => {
    const chat = await createChat(database.db);
    const controller = new AbortController();
    async function* stream(): AsyncGenerator<Uint8Array> {
      for (;;) {
        yield new Uint8Array(300_000);
        controller.abort();
      }
    }
    await expect(upload(chat, stream(), { signal: controller.signal })).rejects.toBeInstanceOf(StorageError);
    expect(await filesOf(chat)).toBe(0);
  });

  test("a stream that says nothing ends with the signal", async () => {
    const chat = await createChat(database.db);
    const controller = new AbortController();
    async function* stream(): AsyncGenerator<Uint8Array> {
      yield new Uint8Array(300_000);
      controller.abort();
      await new Promise(() => {});
    }
    await expect(upload(chat, stream(), { signal: controller.signal })).rejects.toBeInstanceOf(StorageError);
    expect(await filesOf(chat)).toBe(0);
  });

  test("a chat that is purged during the upload refuses the rest", async () => {
    const chat = await createChat(database.db);
    async function* stream(): AsyncGenerator<Uint8Array> {
      yield new Uint8Array(300_000);
      await database.db.query("delete from chats where id = $1", [chat.chatId]);
      yield new Uint8Array(300_000);
    }
    await expect(upload(chat, stream())).rejects.toMatchObject({
      code: "provider_rejected",
      retryable: false,
    });
    expect(await filesOf(chat)).toBe(0);
  });

  test.each([
    ["names no attachment", () => "file.pdf"],
    ["names an attachment that is not there", (chat: TestChat) => `${chat.chatId}_${randomUUID()}.pdf`],
  ])("a file whose name %s is refused", async (_, name) => {
    const chat = await createChat(database.db);
    const sent = storage.files.upload(contextOf(chat), {
      name: name(chat),
      contentType: mime.txt,
      stream: inPieces(Buffer.from("x")),
    });
    await expect(sent).rejects.toMatchObject({ code: "provider_rejected" });
  });

  test("a file for another tenant's attachment is refused", async () => {
    const chat = await createChat(database.db);
    const attachmentId = await createAttachment(database.db, chat);
    const sent = upload({ tenantId: newTenant(), chatId: chat.chatId }, inPieces(Buffer.from("x")), {
      attachmentId,
    });
    await expect(sent).rejects.toMatchObject({ code: "provider_rejected" });
    expect(await filesOf(chat)).toBe(0);
  });

  test("a database that fails is another attempt", async () => {
    const broken = await createTestDatabase({ empty: true });
    const failing = createLocalStorage({
      db: broken.db,
      indexer: idle,
      providerId: "p",
      storageBackend: "p",
    });
    const refused = { code: "provider_unavailable", retryable: true };
    await expect(failing.stores.create({ tenantId: newTenant(), correlationId: "t" })).rejects.toMatchObject(
      refused,
    );
    await expect(
      failing.files.delete({ tenantId: newTenant(), correlationId: "t" }, randomUUID()),
    ).rejects.toMatchObject(refused);
    await broken.drop();
  });
});

describe("deletion", () => {
  test.each<
    [
      string,
      (chat: TestChat, file: { fileId: string; storeId: string; attachmentId: string }) => Promise<unknown>,
    ]
  >([
    ["the file", (chat, { fileId }) => storage.files.delete(contextOf(chat), fileId)],
    [
      "the attachment's row",
      (_, { attachmentId }) => database.db.query("delete from attachments where id = $1", [attachmentId]),
    ],
    ["the chat's row", ({ chatId }) => database.db.query("delete from chats where id = $1", [chatId])],
  ])("of %s leaves no row", async (_, remove) => {
    const chat = await createChat(database.db);
    const file = await addDocument(database.db, storage, chat, { content: "Some text." });
    expect(file.status).toBe("completed");
    expect(await rowsOf(database.db, file.fileId)).toEqual({ files: 1, pieces: 1, chunks: 1 });
    await remove(chat, file);
    expect(await rowsOf(database.db, file.fileId)).toEqual(gone);
  });

  test("out of the store: the text goes, the bytes stay, and it can be added again", async () => {
    const chat = await createChat(database.db);
    const context = contextOf(chat);
    const { fileId, storeId } = await addDocument(database.db, storage, chat, { content: "Some text." });
    await storage.stores.removeFile(context, storeId, fileId);
    expect(await rowsOf(database.db, fileId)).toEqual({ files: 1, pieces: 1, chunks: 0 });
    expect(await storage.stores.fileStatus(context, storeId, fileId)).toBe("unknown");
    expect(await storage.stores.addFile(context, storeId, fileId, {})).not.toBe("failed");
  });

  test("of a store takes the text of its files along", async () => {
    const chat = await createChat(database.db);
    const context = contextOf(chat);
    const { fileId, storeId } = await addDocument(database.db, storage, chat, { content: "Some text." });
    await storage.stores.delete(context, storeId);
    expect(await rowsOf(database.db, fileId)).toEqual({ files: 1, pieces: 1, chunks: 0 });
    await expect(storage.stores.addFile(context, storeId, fileId, {})).rejects.toMatchObject({
      code: "provider_rejected",
    });
  });

  test("of what is not there succeeds, also twice", async () => {
    const context = { tenantId: newTenant(), correlationId: "t" };
    for (const id of [randomUUID(), "file-of-another-kind", ""]) {
      await storage.files.delete(context, id);
      await storage.stores.removeFile(context, id, id);
      await storage.stores.delete(context, id);
    }
  });
});

test("another tenant, or another provider, can neither see, add nor remove a file", async () => {
  const chat = await createChat(database.db);
  const { fileId, storeId } = await addDocument(database.db, storage, chat, { content: "Some text." });
  const strangers = [
    [storage, { tenantId: newTenant(), correlationId: "t" }],
    [storageOf(idle, "q"), contextOf(chat)],
  ] as const;
  for (const [as, context] of strangers) {
    expect(await as.stores.fileStatus(context, storeId, fileId)).toBe("unknown");
    await as.files.delete(context, fileId);
    await as.stores.removeFile(context, storeId, fileId);
    await as.stores.delete(context, storeId);
    const own = await as.stores.create(context);
    await expect(as.stores.addFile(context, own, fileId, {})).rejects.toMatchObject({
      code: "provider_rejected",
    });
    expect((await all(as.files.list(context))).map(({ id }) => id)).not.toContain(fileId);
    expect((await all(as.stores.list(context))).map(({ id }) => id)).toEqual([own]);
  }
  expect(await rowsOf(database.db, fileId)).toEqual({ files: 1, pieces: 1, chunks: 1 });
  const listed = await all(storage.files.list(contextOf(chat)));
  expect(listed.map(({ id, name }) => [id, name?.startsWith(chat.chatId)])).toEqual([[fileId, true]]);
});

describe("indexing", () => {
  test("a document that cannot be read is failed, with the reason on its row", async () => {
    const chat = await createChat(database.db);
    const file = await addDocument(database.db, storage, chat, { content: encryptedPdf(), type: mime.pdf });
    expect(file.status).toBe("failed");
    const { rows } = await database.db.query("select index_failure from local_files where id = $1", [
      file.fileId,
    ]);
    expect(rows).toEqual([{ index_failure: "encrypted" }]);
    expect(await rowsOf(database.db, file.fileId)).toMatchObject({ chunks: 0 });
    expect(indexed.find(({ fileId }) => fileId === file.fileId)).toMatchObject({
      tenantId: chat.tenantId,
      contentType: mime.pdf,
      result: { failure: "encrypted" },
    });
  });

  test("many files added at once are all indexed, each once", async () => {
    const chat = await createChat(database.db);
    const store = await storage.stores.create(contextOf(chat));
    const other = startIndexer(database.db, { onError: (error) => errors.push(error) });
    const added = await Promise.all(
      Array.from({ length: 8 }, (_, at) =>
        addDocument(database.db, storage, chat, { content: `Text number ${at}.` }, store),
      ),
    );
    await other.stop();
    expect(added.map(({ status }) => status)).toEqual(added.map(() => "completed"));
    for (const { fileId } of added) expect(await rowsOf(database.db, fileId)).toMatchObject({ chunks: 1 });
  });

  const waiting = async (content: string): Promise<{ chat: TestChat; fileId: string; storeId: string }> => {
    const chat = await createChat(database.db);
    const slow = storageOf(idle);
    const { providerFileId: fileId } = await upload(chat, inPieces(Buffer.from(content)));
    const storeId = await slow.stores.create(contextOf(chat));
    expect(await slow.stores.addFile(contextOf(chat), storeId, fileId, {})).toBe("in_progress");
    return { chat, fileId, storeId };
  };

  const claim = (token: string, leaseSecs: number) =>
    inTransaction(database.db, (tx) => claimFile(tx, token, leaseSecs));

  const chunk = (no: number, content: string): string =>
    JSON.stringify([{ no, content, overlap: 0, kind: "line", from: 1, to: 1, words: "'x':1" }]);

  test("a file whose process died is taken over, and its half is not kept", async () => {
    const { chat, fileId, storeId } = await waiting("The whole text.");
    const dead = await claim(randomUUID(), -1);
    expect(dead?.id).toBe(fileId);
    await database.db.query("update local_files set index_claim = $2 where id = $1", [fileId, fileId]);
    if (dead === undefined) throw new Error("no file");
    await inTransaction(database.db, (tx) => insertChunks(tx, dead, fileId, -1, chunk(0, "half")));
    await indexer.run();
    expect(await storage.stores.fileStatus(contextOf(chat), storeId, fileId)).toBe("completed");
    const { rows } = await database.db.query("select content from local_chunks where file_id = $1", [fileId]);
    expect(rows).toEqual([{ content: "The whole text." }]);
  });

  test("who lost the claim stores and settles nothing", async () => {
    const { fileId } = await waiting("text");
    const [lost, holder] = [randomUUID(), randomUUID()];
    const file = await claim(lost, -1);
    if (file === undefined) throw new Error("no file");
    expect((await claim(holder, 60))?.id).toBe(fileId);
    expect(await claim(randomUUID(), 60)).toBeUndefined();
    const late = await inTransaction(database.db, async (tx) => [
      await insertChunks(tx, file, lost, 60, chunk(0, "late")),
      await settleIndexing(tx, file, lost, { failure: "malformed" }),
    ]);
    expect(late).toEqual([false, false]);
    await inTransaction(database.db, (tx) =>
      settleIndexing(tx, file, holder, { chunks: 0, truncated: false }),
    );
    expect(await rowsOf(database.db, fileId)).toMatchObject({ chunks: 0 });
  });

  test("a value that no column takes is the document's fault", async () => {
    const { fileId } = await waiting("text");
    const holder = randomUUID();
    const file = await claim(holder, 60);
    if (file === undefined) throw new Error("no file");
    const beyond = chunk(0, "text").replace('"from":1', '"from":99999999999');
    await expect(
      inTransaction(database.db, (tx) => insertChunks(tx, file, holder, 60, beyond)),
    ).rejects.toMatchObject({ name: "ExtractionError", failure: "malformed" });
    await inTransaction(database.db, (tx) => settleIndexing(tx, file, holder, { failure: "malformed" }));
    expect(await rowsOf(database.db, fileId)).toMatchObject({ chunks: 0 });
  });

  test("a file whose chunks cannot be stored does not hold those behind it", async () => {
    const first = await waiting("text");
    const second = await waiting("text");
    await database.db.query(
      `create function refuse_chunks() returns trigger language plpgsql as
       $$ begin raise exception 'no room'; end $$`,
    );
    await database.db.query(
      `create trigger refuse_chunks before insert on local_chunks for each row
       when (new.file_id = '${first.fileId}') execute function refuse_chunks()`,
    );
    const told: unknown[] = [];
    const other = startIndexer(database.db, { onError: (error) => told.push(error) });
    try {
      await other.run();
    } finally {
      await other.stop();
      await database.db.query("drop function refuse_chunks cascade");
    }
    expect(told).toEqual([expect.objectContaining({ message: "no room" })]);
    const statusOf = ({ chat, storeId, fileId }: typeof first) =>
      storage.stores.fileStatus(contextOf(chat), storeId, fileId);
    expect(await statusOf(second)).toBe("completed");
    expect(await statusOf(first)).toBe("in_progress");
    await storage.files.delete(contextOf(first.chat), first.fileId);
  });

  test("a file that ends its process each time is given up", async () => {
    const { chat, fileId, storeId } = await waiting("text");
    for (let attempt = 0; attempt < 3; attempt += 1) await claim(randomUUID(), -1);
    await indexer.run();
    expect(await storage.stores.fileStatus(contextOf(chat), storeId, fileId)).toBe("failed");
  });

  test("a file that is deleted while it is indexed leaves nothing", async () => {
    const { chat, fileId } = await waiting("word ".repeat(500_000));
    const running = indexer.run();
    const giveUpAt = Date.now() + 20_000;
    while ((await rowsOf(database.db, fileId))["chunks"] === 0 && Date.now() < giveUpAt) {
      await new Promise((resolve) => setTimeout(resolve, 2));
    }
    await storage.files.delete(contextOf(chat), fileId);
    await running;
    expect(await rowsOf(database.db, fileId)).toEqual(gone);
  });

  test("a stopped process gives its file back at once", async () => {
    const { chat, fileId, storeId } = await waiting("word ".repeat(500_000));
    const stopped = startIndexer(database.db, {
      onError: (error) => errors.push(error),
      limits: extractionLimits,
    });
    const giveUpAt = Date.now() + 20_000;
    while ((await rowsOf(database.db, fileId))["chunks"] === 0 && Date.now() < giveUpAt) {
      await new Promise((resolve) => setTimeout(resolve, 2));
    }
    await stopped.stop();
    const { rows } = await database.db.query(
      "select index_claim, index_attempts from local_files where id = $1 and index_status = 'in_progress'",
      [fileId],
    );
    expect(rows).toEqual([{ index_claim: null, index_attempts: 0 }]);
    await indexer.run();
    expect(await storage.stores.fileStatus(contextOf(chat), storeId, fileId)).toBe("completed");
  });
});

test("the sweep removes what no attachment names, and nothing else", async () => {
  const chat = await createChat(database.db);
  const kept = await addDocument(database.db, storage, chat, { content: "kept needle" });
  const { providerFileId: orphan } = await upload(chat, inPieces(Buffer.from("orphan")));
  await sweepLocalFiles(database.db, { graceSecs: 3_600, limit: 1_000 });
  expect(await rowsOf(database.db, orphan)).toMatchObject({ files: 1 });
  await database.db.query("update local_files set created_at = created_at - interval '2 hours'");
  await sweepLocalFiles(database.db, { graceSecs: 3_600, limit: 1_000 });
  expect(await rowsOf(database.db, orphan)).toEqual(gone);
  expect(await rowsOf(database.db, kept.fileId)).toEqual({ files: 1, pieces: 1, chunks: 1 });
  expect(
    await findExcerpts(database.db, chat.tenantId, chat.chatId, "needle", {
      maxBytes: 4_000,
      maxResults: 3,
    }),
  ).toHaveLength(1);
});

test("the sweep removes stores that no chat has, and no other", async () => {
  const chat = await createChat(database.db);
  const { storeId: kept } = await addDocument(database.db, storage, chat, { content: "needle" });
  await database.db.query(
    `insert into chat_vector_stores (id, tenant_id, chat_id, vector_store_id, provider, provider_id)
     values ($1, $2, $3, $4, 'local', 'p')`,
    [randomUUID(), chat.tenantId, chat.chatId, kept],
  );
  const forgotten = await storage.stores.create(contextOf(chat));
  const storesOf = async (): Promise<string[]> =>
    (await all(storage.stores.list(contextOf(chat)))).map(({ id }) => id);
  await sweepLocalFiles(database.db, { graceSecs: 3_600, limit: 1_000 });
  expect(await storesOf()).toEqual([kept, forgotten]);
  await database.db.query("update local_stores set created_at = created_at - interval '2 hours'");
  await sweepLocalFiles(database.db, { graceSecs: 3_600, limit: 1_000 });
  expect(await storesOf()).toEqual([kept]);
});
