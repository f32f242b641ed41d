import { randomUUID } from "node:crypto";
import type { Db } from "../../src/db/pool.ts";
import { inTransaction } from "../../src/db/tx.ts";
import type { UsageEvent } from "../../src/outbox/events.ts";
import type { HandlerContext, Handlers, Message, QueueHandler, Verdict } from "../../src/outbox/message.ts";
import { createOutbox, type Outbox, type OutboxConfig, type OutboxDeps } from "../../src/outbox/outbox.ts";
import { turnUsageEvent } from "../../src/usage/event.ts";
import { completedTurn } from "../usage/samples.ts";

/** Fast polling and short back-offs, so that tests wait for events and never for the clock. */
export const testConfig: OutboxConfig = {
  num_partitions: 4,
  queue_name: "usage",
  cleanup_queue_name: "attachment-cleanup",
  chat_cleanup_queue_name: "chat-cleanup",
  thread_summary_queue_name: "thread-summary",
  audit_queue_name: "audit",
  doc_summary_queue_name: "doc-summary",
  poll_interval_ms: 50,
  processors: 4,
  batch_size: 10,
  claim_partitions: 16,
  retry_base_ms: 20,
  retry_max_ms: 100,
  notify: false,
};

type Change = Partial<Omit<OutboxDeps, "config">> & { config?: Partial<OutboxConfig> };

/** A registered outbox on the database; not started. */
export const registeredOutbox = async (db: Db, change: Change = {}): Promise<Outbox> => {
  const outbox = createOutbox({
    db,
    instanceId: "test",
    stopTimeoutMs: 1_000,
    ...change,
    config: { ...testConfig, ...change.config },
  });
  await outbox.register();
  return outbox;
};

/** The outboxes a test file has made, stopped together. */
export const ownOutboxes = (db: () => Db) => {
  const made: Outbox[] = [];
  return {
    outboxOf: async (change: Change = {}): Promise<Outbox> => {
      const outbox = await registeredOutbox(db(), change);
      made.push(outbox);
      return outbox;
    },
    stopAll: async (): Promise<void> => {
      await Promise.all(made.splice(0).map((outbox) => outbox.stop()));
    },
  };
};

/** Empties the tables, as no test does by itself; the partitions stay. */
export const freshOutbox = async (db: Db): Promise<void> => {
  await db.query("truncate outbox_message, outbox_dead, outbox_parked");
  await db.query(`
    update outbox_partition
    set
      lease_token = null, lease_until = null, not_before = null, head_id = null, head_attempts = 0,
      last_served_at = null, last_error = null, paused = false, scan_from = 0, read_from = 0`);
};

/** Ends every lease now, as if its time had passed. */
export const expireLeases = async (db: Db): Promise<void> => {
  await db.query(`
    update outbox_partition
    set lease_until = now() - interval '1 ms'
    where lease_token is not null`);
};

/** A lease short enough to be waited for. */
export const crashLease = { leaseMs: 2_000, headroomMs: 500 } as const;

/** What a handler is called with, for one called directly. */
export const handlerContext = (ms = 10_000): HandlerContext => ({
  signal: AbortSignal.timeout(ms),
  stopping: new AbortController().signal,
  deadline: performance.now() + ms,
  renew: async () => true,
});

/** A message for a handler that is called directly. */
export const messageOf = (payload: unknown, change: Partial<Message> = {}): Message => ({
  partitionId: 1,
  id: 1n,
  messageId: "018f0000-0000-4000-8000-000000000001",
  tenantId: "11111111-1111-4111-8111-111111111111",
  orderKey: "11111111-1111-4111-8111-111111111111",
  kind: "usage",
  payload: typeof payload === "string" ? payload : JSON.stringify(payload),
  trace: null,
  ageMs: 5,
  attempts: 1,
  parked: false,
  ...change,
});

/** Serves the named queues; the others keep their messages. */
export const serving = (handlers: Partial<Handlers>): Handlers => ({
  usage: "keep_waiting",
  attachment_cleanup: "keep_waiting",
  chat_cleanup: "keep_waiting",
  thread_summary: "keep_waiting",
  audit: "keep_waiting",
  doc_summary: "keep_waiting",
  ...handlers,
});

/** A tenant whose events go to the given partition (of at most 64). */
export const tenantOf = (partition: number): string =>
  `${randomUUID().slice(0, -2)}${partition.toString(16).padStart(2, "0")}`;

/** A usage event that carries a number in `request_id`'s place of interest: `web_search_calls`. */
export const numbered = (tenantId: string, number: number): UsageEvent => {
  const event = turnUsageEvent({ ...completedTurn, tenantId, requestId: randomUUID() });
  return { ...event, web_search_calls: number };
};

export const numberOf = (message: Message): number => JSON.parse(message.payload).web_search_calls;

/** Commits one usage event per number, each in a transaction of its own, then flushes. */
export const enqueueNumbers = async (
  outbox: Outbox,
  db: Db,
  tenantId: string,
  numbers: readonly number[],
): Promise<void> => {
  for (const number of numbers) {
    await inTransaction(db, (tx) => outbox.enqueuer.enqueueUsageEvent(tx, numbered(tenantId, number)));
  }
  outbox.flush();
};

export interface Seen {
  readonly tenantId: string;
  readonly number: number;
  readonly messageId: string;
  readonly attempts: number;
}

export interface Recorder {
  readonly seen: readonly Seen[];
  readonly handler: QueueHandler;
  /** Resolves once the condition holds over what was seen. */
  until(condition: (seen: readonly Seen[]) => boolean): Promise<void>;
}

/** A handler that remembers what it took on and answers with `verdict` (default: done), key by key in order. */
export const recorder = (
  verdict: (message: Message, seen: Seen) => Verdict | undefined | Promise<Verdict | undefined> = () => ({
    kind: "done",
  }),
): Recorder => {
  const seen: Seen[] = [];
  const waiters = new Set<() => void>();
  return {
    seen,
    handler: async (messages) => {
      const verdicts: (Verdict | undefined)[] = [];
      const failed = new Set<string>();
      for (const message of messages) {
        const { tenantId, messageId, attempts, orderKey } = message;
        const one = { tenantId, messageId, attempts, number: numberOf(message) };
        if (!failed.has(orderKey)) seen.push(one);
        for (const waiter of waiters) waiter();
        const answer = failed.has(orderKey) ? undefined : await verdict(message, one);
        if (answer?.kind === "retry") failed.add(orderKey);
        verdicts.push(answer);
      }
      return verdicts;
    },
    until: (condition) =>
      new Promise((resolve) => {
        const check = (): void => {
          if (!condition(seen)) return;
          waiters.delete(check);
          resolve();
        };
        waiters.add(check);
        check();
      }),
  };
};

/** Polls until the condition holds; the time limit of the test bounds it. */
export const eventually = async (condition: () => Promise<boolean>): Promise<void> => {
  while (!(await condition())) await new Promise((resolve) => setTimeout(resolve, 5));
};

/** Rows of a table, counted. */
export const countRows = async (
  db: Db,
  table: "outbox_message" | "outbox_dead" | "outbox_parked",
): Promise<number> => {
  const { rows } = await db.query<{ n: bigint }>(`select count(*) as n from ${table}`);
  return Number(rows[0]?.n);
};

/** Resolves once nothing waits and no partition is leased. */
export const drained = (db: Db): Promise<void> =>
  eventually(async () => {
    const { rows } = await db.query<{ busy: boolean }>(`
      select
        exists (select from outbox_message)
        or exists (select from outbox_partition where lease_token is not null) as busy`);
    return rows[0]?.busy === false;
  });

/** A promise with its resolver: tests wait on signals. */
export const signal = (): { readonly given: Promise<void>; give(): void } => {
  const { promise, resolve } = Promise.withResolvers<void>();
  return { given: promise, give: resolve };
};
