import { readFileSync } from "node:fs";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import type { Tree } from "../../src/config/tree.ts";
import { catalog, smallModel, summaryCalls } from "../summaries/support.ts";
import { eventually } from "../support/app.ts";
import {
  ageDeadProcesses,
  createGround,
  found,
  type Ground,
  holdLock,
  newChat,
  send,
  waitingForLocks,
} from "./support.ts";

let ground: Ground;
let dir: string;
let config: Tree;
beforeEach(async () => {
  ground = await createGround();
  dir = await mkdtemp(join(tmpdir(), "mini-chat-summary-"));
  const usage = { type: "file", path: join(dir, "usage.jsonl") };
  const { plugins } = catalog(smallModel()) as { plugins: Tree };
  config = { plugins: { ...plugins, usage } };
});
afterEach(async () => {
  await ground.clear();
  await rm(dir, { recursive: true, force: true });
});

interface Published {
  readonly request_id: string;
  readonly requester_type: string;
  readonly dedupe_key: string;
}

const published = (): Published[] =>
  readFileSync(join(dir, "usage.jsonl"), "utf8")
    .split("\n")
    .filter((line) => line !== "")
    .map((line) => (JSON.parse(line) as { event: Published }).event)
    .filter((event) => event.requester_type === "system");

const summaryExists = () => found(ground.db, "select from thread_summaries");

const outboxIsEmpty = () =>
  eventually(async () => (await ground.db.query("select from outbox_message")).rowCount === 0);

/** A server with a chat whose summary is due: it is asked for, and the answer waits at the gate. */
const startSummarising = async (gate: string) => {
  const server = await ground.start({ config });
  const chatId = await newChat(server);
  ground.simulator.setSummary({ gate, events: [{ text: "<summary>all of it</summary>" }] });
  for (let at = 1; at <= 7; at += 1) await (await send(server, chatId, { content: `q${at}` })).rest();
  await ground.simulator.arrived(gate);
  return server;
};

const expectOneSummary = async (): Promise<void> => {
  await summaryExists();
  await outboxIsEmpty();
  const ids = new Set(summaryCalls(ground).map((call) => call.headers["x-request-id"]));
  expect(ids.size).toBe(1);
  const events = new Map(published().map((event) => [event.dedupe_key, event]));
  expect([...events.values()].map((event) => event.request_id)).toEqual([...ids]);
  const { rows } = await ground.db.query<{ covered: bigint; text: string }>(
    `select s.summary_text as "text", count(*) filter (where m.is_compressed) as covered
     from thread_summaries s
     join messages m on m.chat_id = s.chat_id
     group by s.id`,
  );
  expect(rows).toEqual([{ text: "all of it", covered: 10n }]);
};

test("kill -9 while the provider writes a summary: the next process makes it, under the same id, once", async () => {
  const first = await startSummarising("killed");
  await first.kill();
  expect((await ground.db.query("select from thread_summaries")).rowCount).toBe(0);
  ground.simulator.open("killed");
  await ageDeadProcesses(ground.db);
  await ground.start({ config });
  await expectOneSummary();
  expect(summaryCalls(ground)).toHaveLength(2);
});

test("kill -9 in the middle of its commit: nothing of it is left, and the next process makes it", async () => {
  const first = await startSummarising("committing");
  const release = await holdLock(ground.databaseUrl, "select from chats for update");
  ground.simulator.open("committing");
  await waitingForLocks(ground.db);
  await first.kill();
  await release();
  expect((await ground.db.query("select from messages where is_compressed")).rowCount).toBe(0);
  await ageDeadProcesses(ground.db);
  await ground.start({ config });
  await expectOneSummary();
  expect(summaryCalls(ground)).toHaveLength(2);
});

test("kill -9 after the commit, before the acknowledgement: the next process finds it done", async () => {
  const first = await startSummarising("committed");
  const release = await holdLock(
    ground.databaseUrl,
    "select from outbox_partition where queue = 'mini-chat.thread_summary' for update",
  );
  ground.simulator.open("committed");
  await summaryExists();
  await first.kill();
  await release();
  await ageDeadProcesses(ground.db);
  await ground.start({ config });
  await expectOneSummary();
  expect(summaryCalls(ground)).toHaveLength(1);
});
