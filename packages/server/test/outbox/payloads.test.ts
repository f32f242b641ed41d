import { readdirSync, readFileSync } from "node:fs";
import { afterAll, beforeAll, beforeEach, describe, expect, it } from "vitest";
import { readAuditEvent } from "../../src/audit/read.ts";
import type { Db } from "../../src/db/pool.ts";
import { inTransaction, type Tx } from "../../src/db/tx.ts";
import { readAttachmentCleanup, readChatCleanup } from "../../src/outbox/cleanup-event.ts";
import type { OutboxEnqueuer } from "../../src/outbox/enqueuer.ts";
import type { OutboxEvent } from "../../src/outbox/events.ts";
import { type QueueKind, queueKinds } from "../../src/outbox/queue.ts";
import { readDocSummaryTask, readThreadSummaryTask } from "../../src/outbox/summary-task.ts";
import { readUsageEvent } from "../../src/usage/event.ts";
import { createTestDatabase } from "../support/database.ts";
import { freshOutbox, registeredOutbox } from "./support.ts";

let database: Awaited<ReturnType<typeof createTestDatabase>>;
let db: Db;
let enqueuer: OutboxEnqueuer;

beforeAll(async () => {
  database = await createTestDatabase();
  db = database.db;
  enqueuer = (await registeredOutbox(db)).enqueuer;
});
beforeEach(() => freshOutbox(db));
afterAll(() => database.drop());

/** The golden files of a folder of tests, as one line each. */
const golden = (slice: string, prefix = ""): [name: string, payload: string][] => {
  const directory = new URL(`../${slice}/golden/`, import.meta.url);
  return readdirSync(directory)
    .filter((name) => name.startsWith(prefix))
    .map((name) => [name, JSON.stringify(JSON.parse(readFileSync(new URL(name, directory), "utf8")))]);
};

interface Operation {
  readonly kind: QueueKind;
  readonly files: readonly [name: string, payload: string][];
  readonly enqueue: (tx: Tx, payload: string) => Promise<void>;
  readonly orderKey: "tenant_id" | "chat_id";
}

/** The producer operations of outbox.md §2 with the payloads of §4 each may write. */
const operations: readonly Operation[] = [
  {
    kind: "usage",
    files: golden("usage"),
    enqueue: (tx, payload) => enqueuer.enqueueUsageEvent(tx, readUsageEvent(payload)),
    orderKey: "tenant_id",
  },
  {
    kind: "audit",
    files: golden("audit"),
    enqueue: (tx, payload) => enqueuer.enqueueAuditEvent(tx, readAuditEvent(payload)),
    orderKey: "tenant_id",
  },
  {
    kind: "attachment_cleanup",
    files: golden("outbox", "attachment-cleanup"),
    enqueue: (tx, payload) => enqueuer.enqueueAttachmentCleanup(tx, readAttachmentCleanup(payload)),
    orderKey: "tenant_id",
  },
  {
    kind: "chat_cleanup",
    files: golden("outbox", "chat-cleanup"),
    enqueue: (tx, payload) => enqueuer.enqueueChatCleanup(tx, readChatCleanup(payload)),
    orderKey: "chat_id",
  },
  {
    kind: "thread_summary",
    files: golden("outbox", "thread-summary"),
    enqueue: (tx, payload) => enqueuer.enqueueThreadSummary(tx, readThreadSummaryTask(payload)),
    orderKey: "chat_id",
  },
  {
    kind: "doc_summary",
    files: golden("outbox", "doc-summary"),
    enqueue: (tx, payload) => enqueuer.enqueueDocSummary(tx, readDocSummaryTask(payload)),
    orderKey: "chat_id",
  },
];

const cases = operations.flatMap((operation) =>
  operation.files.map(([name, payload]) => ({ ...operation, name, payload })),
);

describe("payloads on the queues (outbox.md §4)", () => {
  it("have golden files for every queue, and every golden file has its queue", () => {
    expect(operations.map(({ kind }) => kind).toSorted()).toEqual(queueKinds.toSorted());
    expect(operations.filter(({ files }) => files.length === 0)).toEqual([]);
    const own = operations.slice(2).flatMap(({ files }) => files);
    expect(own).toHaveLength(golden("outbox").length);
  });

  it.each(cases)("of $kind are written as in $name, keys in order", async (operation) => {
    await inTransaction(db, (tx) => operation.enqueue(tx, operation.payload));
    const { rows } = await db.query("select kind, payload, tenant_id, order_key::text from outbox_message");
    const event = JSON.parse(operation.payload);
    expect(rows).toEqual([
      {
        kind: operation.kind,
        payload: operation.payload,
        tenant_id: event.tenant_id,
        order_key: event[operation.orderKey],
      },
    ]);
  });

  it.each(cases)(
    "of $kind as in $name that do not fit are refused before they are written",
    async (operation) => {
      const { kind, payload } = operation;
      // One key more than any payload has, of the size that is too much by one byte.
      const room = 65_536 - Buffer.byteLength(`${payload.slice(0, -1)},"more":""}`);
      const enqueue = (length: number) => {
        const event = { ...JSON.parse(payload), more: "x".repeat(length) };
        return inTransaction(db, (tx) => enqueuer.enqueueMany(tx, [{ kind, event } as OutboxEvent]));
      };
      await expect(enqueue(room + 1)).rejects.toMatchObject({ reason: "payload_too_large" });
      await enqueue(room);
      expect((await db.query("select from outbox_message")).rows).toHaveLength(1);
    },
  );

  it.each(cases)("of $kind as in $name carry safe integers only", async ({ kind, payload }) => {
    for (const more of [2 ** 53, -(2 ** 53), 0.5, Number.NaN, { deep: [1n] }]) {
      const event = { ...JSON.parse(payload), more };
      await expect(
        inTransaction(db, (tx) => enqueuer.enqueueMany(tx, [{ kind, event } as OutboxEvent])),
      ).rejects.toMatchObject({ reason: "invalid_payload" });
    }
    expect((await db.query("select from outbox_message")).rows).toEqual([]);
  });
});
