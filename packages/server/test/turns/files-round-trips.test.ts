import { afterAll, beforeAll, expect, test } from "vitest";
import type { TestApp } from "../support/app.ts";
import { askAbout, citationsIn, startFilesApp, uploaded } from "./files-support.ts";

let app: TestApp;
beforeAll(async () => {
  app = await startFilesApp();
});
afterAll(() => app.close());

/** Round trips of both transactions of a turn, and its reads outside of them by their names. */
const tripsOf = async (chatId: string, content: string) => {
  const { db } = app.app;
  const query = db.query.bind(db);
  const reads: string[] = [];
  let transactions = 0;
  db.onRoundTrip = () => {
    transactions += 1;
  };
  db.query = (statement, values) => {
    reads.push(typeof statement === "string" ? "unnamed" : statement.name);
    return query(statement, values);
  };
  try {
    return { ...(await askAbout(app, chatId, content)), transactions: () => transactions, reads };
  } finally {
    db.onRoundTrip = undefined;
    Reflect.deleteProperty(db, "query");
  }
};

test("a chat's files cost a turn no round trip; a cited one costs one read, after the answer", async () => {
  const plain = await app.createChat();
  const full = await app.createChat();
  await uploaded(app, full, "document");
  await uploaded(app, full, "sheet");
  await askAbout(app, plain, "warm");
  const without = await tripsOf(plain, "How many items are due?");
  const uncited = await tripsOf(full, "PING");
  const cited = await tripsOf(full, "How many items are due?");
  expect(citationsIn(cited.events)).toHaveLength(1);
  expect([without, uncited, cited].map((turn) => turn.transactions())).toEqual([4, 4, 4]);
  expect(uncited.reads).toEqual(without.reads);
  const behind = without.reads.length;
  expect(cited.reads).toHaveLength(behind + 2);
  expect(cited.reads.filter((name) => !without.reads.includes(name)).sort()).toEqual([
    "attachments_live",
    "turn_count_tool",
  ]);
});
