import { afterAll, beforeAll, expect, test } from "vitest";
import { inTransaction } from "../../src/db/tx.ts";
import type { ProviderStorage } from "../../src/providers/storage-contract.ts";
import { placeLabel, renderExcerpts } from "../../src/retrieval/excerpts.ts";
import { findExcerpts } from "../../src/retrieval/find.ts";
import { type LocalIndexer, startIndexer } from "../../src/retrieval/indexer.ts";
import { createLocalStorage } from "../../src/retrieval/local-storage.ts";
import { createTestDatabase, type TestDatabase } from "../support/database.ts";
import { docx, paragraph, pdf } from "./documents.ts";
import { mime } from "./support.ts";
import { addDocument, createChat, type TestChat } from "./world.ts";

let database: TestDatabase;
let indexer: LocalIndexer;
let storage: ProviderStorage;

beforeAll(async () => {
  database = await createTestDatabase();
  indexer = startIndexer(database.db, {
    onError: (error) => {
      throw error;
    },
  });
  storage = createLocalStorage({ db: database.db, indexer, providerId: "p", storageBackend: "local" });
});
afterAll(async () => {
  await indexer.stop();
  await database.drop();
});

const find = (chat: TestChat, question: string, options: { maxBytes?: number; maxResults?: number } = {}) =>
  findExcerpts(database.db, chat.tenantId, chat.chatId, question, {
    maxBytes: 8_000,
    maxResults: 5,
    ...options,
  });

const filler = (topic: string): string =>
  Array.from({ length: 60 }, (_, at) => `${topic} is dealt with in point ${at} of this list, as usual.`).join(
    "\n",
  );

test("the passage that answers is found first, in the right file and at the right place", async () => {
  const chat = await createChat(database.db);
  const lease = pdf([
    filler("Heating").split("\n").slice(0, 45),
    ["The notice period for the lease is three months", "to the end of a quarter."],
    filler("Parking").split("\n").slice(0, 45),
  ]);
  await addDocument(database.db, storage, chat, { filename: "lease.pdf", content: lease, type: mime.pdf });
  await addDocument(database.db, storage, chat, { filename: "list.txt", content: filler("The lease") });
  const minutes = docx(
    `${paragraph("Decisions", "berschrift1")}${paragraph("The garden party moves to July.")}`,
  );
  await addDocument(database.db, storage, chat, {
    filename: "minutes.docx",
    content: minutes,
    type: mime.docx,
  });

  const [notice] = await find(chat, "What is the notice period of the lease?");
  expect(notice).toMatchObject({ filename: "lease.pdf" });
  expect(notice?.position.from).toBeLessThanOrEqual(2);
  expect(notice?.position.to).toBeGreaterThanOrEqual(2);
  expect(notice?.text).toContain("three months");

  const [party] = await find(chat, "when is the Garden-Party?");
  expect(party?.filename).toBe("minutes.docx");
  expect(placeLabel(party?.position ?? { kind: "page", from: 0, to: 0 })).toBe('"Decisions", paragraphs 1–2');
});

test.each([
  ["a plural for a singular", "The deadline is Friday.", "which deadlines are there?"],
  ["a singular for a plural", "All invoices are paid.", "was the invoice paid"],
  ["another case and accent", "Die Prämie beträgt 12 €.", "PRÄMIE"],
  ["without the accent", "Le café est fermé.", "cafe ferme"],
  ["a ligature as PDF has it", "The ﬁnal oﬀer", "final offer"],
  ["a part of a name in code", "function parseHttpUrl() {}", "http url"],
  ["a run of Chinese", "租约的通知期限为三个月。", "通知期限是多久"],
  ["a number", "Invoice 2026-0417 of March", "0417"],
])("%s is found", async (_, content, question) => {
  const chat = await createChat(database.db);
  await addDocument(database.db, storage, chat, { content });
  expect((await find(chat, question)).map(({ text }) => text)).toEqual([content]);
});

test.each(["", "?!", "nowheretobefound", "'; drop table local_chunks; --", "\\' | ' & !'a':*"])(
  "%j finds nothing",
  async (question) => {
    const chat = await createChat(database.db);
    await addDocument(database.db, storage, chat, { content: "Something else." });
    expect(await find(chat, question)).toEqual([]);
  },
);

test("neither another tenant's nor another chat's documents are found", async () => {
  const own = await createChat(database.db);
  const neighbour = await createChat(database.db, own.tenantId);
  const foreign = await createChat(database.db);
  for (const chat of [neighbour, foreign]) {
    await addDocument(database.db, storage, chat, { content: "The needle is here." });
  }
  expect(await find(own, "needle")).toEqual([]);
  expect(await find({ tenantId: own.tenantId, chatId: foreign.chatId }, "needle")).toEqual([]);
  expect(await find(foreign, "needle")).toHaveLength(1);
});

test.each([
  ["deleted", "deleted_at = now()"],
  ["failed", "status = 'failed', error_code = 'x'"],
  ["not ready yet", "status = 'uploaded'"],
])("a document that is %s is not found", async (_, change) => {
  const chat = await createChat(database.db);
  const { attachmentId } = await addDocument(database.db, storage, chat, { content: "The needle is here." });
  expect(await find(chat, "needle")).toHaveLength(1);
  await database.db.query(`update attachments set ${change} where id = $1`, [attachmentId]);
  expect(await find(chat, "needle")).toEqual([]);
});

test("the same question finds the same in the same order", async () => {
  const chat = await createChat(database.db);
  for (const topic of ["Rent", "Rent", "Repairs"]) {
    await addDocument(database.db, storage, chat, { filename: `${topic}.txt`, content: filler(topic) });
  }
  const first = await find(chat, "rent point list");
  expect(first.length).toBeGreaterThan(1);
  for (let round = 0; round < 5; round += 1) expect(await find(chat, "rent point list")).toEqual(first);
});

test("for all budgets the rendered excerpts are within, and more room never says less", async () => {
  const chat = await createChat(database.db);
  for (const topic of ["Rent", "Heating"]) {
    await addDocument(database.db, storage, chat, { filename: `${topic}.txt`, content: filler(topic) });
  }
  let before = 0;
  for (const maxBytes of [0, 400, 800, 1_600, 3_200, 6_400]) {
    const excerpts = await find(chat, "rent heating point", { maxBytes });
    const bytes = Buffer.byteLength(renderExcerpts(excerpts));
    expect(bytes).toBeLessThanOrEqual(maxBytes);
    expect(bytes).toBeGreaterThanOrEqual(before);
    before = bytes;
  }
  expect(before).toBeGreaterThan(0);
});

test("a question that takes too long finds nothing, and the turn goes on", async () => {
  const chat = await createChat(database.db);
  await addDocument(database.db, storage, chat, { content: "The needle is here." });
  await inTransaction(database.db, async (tx) => {
    await tx.query("lock table local_chunks in access exclusive mode");
    expect(
      await findExcerpts(database.db, chat.tenantId, chat.chatId, "needle", {
        maxBytes: 4_000,
        maxResults: 1,
        timeoutMs: 100,
      }),
    ).toEqual([]);
  });
  expect(await find(chat, "needle")).toHaveLength(1);
});

test("documents take turns", async () => {
  const chat = await createChat(database.db);
  await addDocument(database.db, storage, chat, { filename: "long.txt", content: filler("The needle") });
  await addDocument(database.db, storage, chat, { filename: "short.txt", content: "One needle only." });
  const names = new Set((await find(chat, "needle")).map(({ filename }) => filename));
  expect(names).toEqual(new Set(["long.txt", "short.txt"]));
});
