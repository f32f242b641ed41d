import { appendFileSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";
import { DirectConnection } from "../../packages/server/src/db/direct.ts";
import { done, type QueueHandler, type Verdict } from "../../packages/server/src/outbox/message.ts";
import { nowNs } from "../harness/measure.ts";
import type { Answer, Assignment } from "./processes.ts";
import { numberOf, openDb, partitions, registered, serving } from "./queue.ts";

/** A worker process of its own: it serves the queue `usage` as it is told until it gets SIGTERM. */
const assignment = JSON.parse(process.argv[2] ?? "") as Assignment;
const { url, name, mode, file } = assignment;
process.once("disconnect", () => process.exit(1));

const tell = (answer: Answer): void => void process.send?.(answer);

/** One line per run of neighbours, written before anything else: `kill -9` loses nothing that was acknowledged. */
const record: QueueHandler = async (messages) => {
  const at = Number(nowNs()) / 1e6;
  const runs: { key: number; first: number; last: number }[] = [];
  for (const message of messages) {
    const key = Number.parseInt(message.tenantId.slice(-2), 16) % partitions;
    const number = numberOf(message);
    const open = runs.at(-1);
    if (open?.key === key && open.last + 1 === number) open.last = number;
    else runs.push({ key, first: number, last: number });
  }
  appendFileSync(file, runs.map(({ key, first, last }) => `${key} ${first} ${last} ${at}\n`).join(""));
  if (assignment.handlerMs !== undefined) await sleep(assignment.handlerMs);
  return messages.map(() => done);
};

const answer: QueueHandler = async (messages) => {
  const at = Number(nowNs()) / 1e6;
  for (const message of messages) tell({ tenantId: message.tenantId, number: numberOf(message), at });
  return messages.map(() => done);
};

const failing: Verdict = { kind: "retry", error: "the sink is down" };

const handlers: Record<Assignment["mode"], QueueHandler> = {
  record,
  answer,
  refuse: async (messages) => messages.map(() => undefined),
  fail: async (messages) => messages.map(() => failing),
};

const db = openDb(url);
const direct = new DirectConnection({ url });
await direct.start();
const outbox = await registered(db, name, {
  direct,
  config: assignment.config ?? {},
  queues: assignment.queues ?? {},
});

process.once("SIGTERM", async () => {
  await outbox.stop();
  await direct.stop();
  await db.close();
  process.exit(0);
});

process.once("message", async () => {
  await outbox.start(serving({ usage: handlers[mode] }));
  tell("started");
});
tell("ready");
