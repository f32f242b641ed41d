import { setTimeout as sleep } from "node:timers/promises";
import { afterAll, beforeAll, expect, test } from "vitest";
import type { TestApp } from "../support/app.ts";
import { startFilesApp, uploaded } from "./files-support.ts";
import { attach, someoneWaits, whileLocked } from "./support.ts";

let app: TestApp;
beforeAll(async () => {
  app = await startFilesApp({ config: { database: { max_connections: 12 } } });
});
afterAll(() => app.close());

const remove = (chatId: string, id: string) => app.call("DELETE", `/chats/${chatId}/attachments/${id}`);

/** Messages that point at a file which is gone (attachments.md §11). */
const danglingLinks = async (): Promise<number> =>
  (
    await app.db.query(
      `select from message_attachments l join attachments a on a.id = l.attachment_id
       where a.deleted_at is not null`,
    )
  ).rowCount;

test("a file is either linked or deleted, whoever comes first, in eighty races", async () => {
  const outcomes = { linked: 0, deleted: 0 };
  const race = async (leadMs: number): Promise<void> => {
    const chatId = await app.createChat();
    const id = await attach(app, chatId, { kind: "document" });
    const sends = async () => {
      if (leadMs < 0) await sleep(-leadMs);
      const stream = await app.send(chatId, { content: "PING", attachment_ids: [id] });
      if (stream.status === 200) await stream.rest();
      return stream.status === 200 ? "200" : `${stream.status} ${(await stream.problem())["code"]}`;
    };
    const removes = async () => {
      if (leadMs > 0) await sleep(leadMs);
      const { status, body } = await remove(chatId, id);
      return status === 204 ? "204" : `${status} ${body.code}`;
    };
    const [sent, removed] = await Promise.all([sends(), removes()]);
    expect(["200 / 409 attachment_locked", "400 invalid_attachment / 204"]).toContain(`${sent} / ${removed}`);
    outcomes[sent === "200" ? "linked" : "deleted"] += 1;
  };
  // A send that is ahead by as much links its file wherever this runs, a delete removes it; between them
  // anything may happen.
  const leads = () => Array.from({ length: 4 }, () => (Math.random() - 0.3) * 30);
  for (let round = 0; round < 20; round += 1) {
    await Promise.all([...leads(), ...(round === 0 ? [1_500, -1_500] : [])].map(race));
  }
  expect(await danglingLinks()).toBe(0);
  expect(outcomes.linked).toBeGreaterThan(0);
  expect(outcomes.deleted).toBeGreaterThan(0);
});

test("a delete that meets a message being sent waits for it, and is then refused", async () => {
  const chatId = await app.createChat();
  const id = await uploaded(app, chatId, "document");
  let removed: ReturnType<typeof remove> | undefined;
  // The send has its share of the attachment and waits for the quota rows behind it (turns.md §4.3).
  await (await app.send(chatId, { content: "PING" })).rest();
  const sent = await whileLocked(app, "select from quota_usage for update", async () => {
    const sending = app.send(chatId, { content: "PING", attachment_ids: [id] });
    await someoneWaits(app);
    removed = remove(chatId, id);
    await new Promise(setImmediate);
    return { sending };
  });
  const stream = await sent.sending;
  expect(stream.status).toBe(200);
  await stream.rest();
  expect(await removed).toMatchObject({ status: 409, body: { code: "attachment_locked" } });
  expect(await danglingLinks()).toBe(0);
});
