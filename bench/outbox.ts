import { randomUUID } from "node:crypto";
import { chmod, mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { DirectConnection } from "../packages/server/src/db/direct.ts";
import { startEmbedded } from "../packages/server/src/db/embedded.ts";
import { migrate } from "../packages/server/src/db/migrate.ts";
import { Db } from "../packages/server/src/db/pool.ts";
import { inTransaction } from "../packages/server/src/db/tx.ts";
import type { OutboxEvent, UsageEvent } from "../packages/server/src/outbox/events.ts";
import { done, type Handlers, type QueueHandler } from "../packages/server/src/outbox/message.ts";
import { createOutbox, type Outbox } from "../packages/server/src/outbox/outbox.ts";
import { type Summary, summarise } from "./support.ts";

const MESSAGES = 100_000;
const PARTITIONS = 64;
const PRODUCERS = 16;
const ROUNDS = 3;
const PACED = 1_000;
const PACE_MS = 10;

const config = {
  num_partitions: PARTITIONS,
  queue_name: "usage",
  cleanup_queue_name: "attachment-cleanup",
  chat_cleanup_queue_name: "chat-cleanup",
  thread_summary_queue_name: "thread-summary",
  audit_queue_name: "audit",
  doc_summary_queue_name: "doc-summary",
  poll_interval_ms: 1_000,
  processors: 4,
  batch_size: 100,
  claim_partitions: 16,
  retry_base_ms: 1_000,
  retry_max_ms: 60_000,
  notify: true,
} as const;

/** A usage event of an everyday turn, about 800 bytes; the number rides in `web_search_calls`. */
const event = (tenantId: string, number: number): UsageEvent => ({
  tenant_id: tenantId,
  user_id: "22222222-2222-4222-8222-222222222222",
  chat_id: "01890000-0000-7000-8000-000000000003",
  turn_id: "44444444-4444-4444-8444-444444444444",
  request_id: "55555555-5555-4555-8555-555555555555",
  effective_model: "gpt-standard",
  selected_model: "gpt-premium",
  terminal_state: "completed",
  billing_outcome: "completed",
  usage: {
    input_tokens: 1_200,
    output_tokens: 340,
    cache_read_input_tokens: 1_000,
    cache_write_input_tokens: 64,
    reasoning_tokens: 128,
  },
  actual_credits_micro: 126_510,
  settlement_method: "actual",
  policy_version_applied: 7,
  web_search_calls: number,
  code_interpreter_calls: 0,
  timestamp: "2026-03-01T10:15:31.204Z",
  requester_type: "user",
  dedupe_key: `${tenantId.replaceAll("-", "")}/44444444444444448444444444444444/55555555555555558555555555555555`,
  overshoot_capped: false,
  reserved_credits_micro: 250_000,
  file_search_calls: 2,
  error_code: null,
  completion_signal: null,
});

/** One tenant per partition: its last byte is the partition. */
const tenants = Array.from(
  { length: PARTITIONS },
  (_, partition) => `${randomUUID().slice(0, -2)}${partition.toString(16).padStart(2, "0")}`,
);

const serving = (usage: QueueHandler): Handlers => ({
  usage,
  attachment_cleanup: "keep_waiting",
  chat_cleanup: "keep_waiting",
  thread_summary: "keep_waiting",
  audit: "keep_waiting",
  doc_summary: "keep_waiting",
});

interface Place {
  readonly url: string;
  readonly db: Db;
}

const openDb = (url: string): Db =>
  new Db({
    url,
    maxConnections: 10,
    acquireTimeoutMs: 30_000,
    statementTimeoutMs: 15_000,
    lockTimeoutMs: 5_000,
    idleInTransactionTimeoutMs: 30_000,
    applicationName: "mini-chat bench",
  });

const registered = async (db: Db, instanceId: string, direct?: DirectConnection): Promise<Outbox> => {
  const outbox = createOutbox({ db, config, instanceId, ...(direct === undefined ? {} : { direct }) });
  await outbox.register();
  return outbox;
};

const walPosition = async (db: Db): Promise<number> =>
  Number((await db.query<{ at: string }>("select (pg_current_wal_insert_lsn() - '0/0') as at")).rows[0]?.at);

/** Writes the whole backlog, a hundred messages of a tenant per transaction; returns its seconds. */
const fill = async (db: Db, outbox: Outbox): Promise<number> => {
  const perTenant = Math.ceil(MESSAGES / PARTITIONS);
  const begin = performance.now();
  const todo = [...tenants];
  const produce = async (): Promise<void> => {
    for (let tenant = todo.shift(); tenant !== undefined; tenant = todo.shift()) {
      for (let from = 0; from < perTenant; from += 100) {
        const numbers = Array.from({ length: Math.min(100, perTenant - from) }, (_, at) => from + at);
        const events = numbers.map((n): OutboxEvent => ({ kind: "usage", event: event(`${tenant}`, n) }));
        await inTransaction(db, (tx) => outbox.enqueuer.enqueueMany(tx, events));
      }
    }
  };
  await Promise.all(Array.from({ length: PRODUCERS }, produce));
  return (performance.now() - begin) / 1_000;
};

/** Throws unless every message came once, those of a tenant in the order they were written. */
const verify = (payloads: ReadonlyMap<string, readonly string[]>): void => {
  const perTenant = Math.ceil(MESSAGES / PARTITIONS);
  for (const tenant of tenants) {
    const numbers = (payloads.get(tenant) ?? []).map((payload) => JSON.parse(payload).web_search_calls);
    const wrong = numbers.findIndex((number, at) => number !== at);
    if (numbers.length !== perTenant || wrong !== -1) {
      throw new Error(`${numbers.length} of ${perTenant} messages, out of order from ${wrong}`);
    }
  }
};

interface Drain {
  readonly enqueuedPerSecond: number;
  readonly walPerEnqueue: number;
  readonly drainedPerSecond: number;
  readonly walPerDelivery: number;
}

/** Fills the queue, then drains it with a handler that only keeps what it got. */
const drainOnce = async ({ db }: Place): Promise<Drain> => {
  const total = Math.ceil(MESSAGES / PARTITIONS) * PARTITIONS;
  const outbox = await registered(db, "bench");
  const empty = await walPosition(db);
  const fillSeconds = await fill(db, outbox);
  const full = await walPosition(db);
  const payloads = new Map<string, string[]>(tenants.map((tenant) => [tenant, []]));
  const all = Promise.withResolvers<void>();
  let count = 0;
  const begin = performance.now();
  await outbox.start(
    serving(async (messages) => {
      for (const { tenantId, payload } of messages) payloads.get(tenantId)?.push(payload);
      count += messages.length;
      if (count >= total) all.resolve();
      return messages.map(() => done);
    }),
  );
  await all.promise;
  // Includes the last acknowledgements.
  await outbox.stop();
  const seconds = (performance.now() - begin) / 1_000;
  const drained = await walPosition(db);
  verify(payloads);
  const { rows } = await db.query<{ left: number }>("select count(*)::int as left from outbox_message");
  if (rows[0]?.left !== 0) throw new Error(`${rows[0]?.left} messages were not acknowledged`);
  return {
    enqueuedPerSecond: total / fillSeconds,
    walPerEnqueue: (full - empty) / total,
    drainedPerSecond: total / seconds,
    walPerDelivery: (drained - full) / total,
  };
};

/** Milliseconds from before `flush` (the commit is done) to the handler, at 100 messages per second. */
const latency = async (db: Db, producer: Outbox, worker: Outbox): Promise<Summary> => {
  const flushed = new Map<number, number>();
  const samples: number[] = [];
  const all = Promise.withResolvers<void>();
  await worker.start(
    serving(async (messages) => {
      const now = performance.now();
      for (const { payload } of messages) {
        samples.push(now - (flushed.get(JSON.parse(payload).web_search_calls) ?? now));
      }
      if (samples.length >= PACED) all.resolve();
      return messages.map(() => done);
    }),
  );
  const begin = performance.now();
  for (let number = 0; number < PACED; number += 1) {
    const due = begin + number * PACE_MS;
    await new Promise((resolve) => setTimeout(resolve, Math.max(0, due - performance.now())));
    const tenant = tenants[number % PARTITIONS] ?? "";
    await inTransaction(db, async (tx) => {
      await producer.enqueuer.enqueueUsageEvent(tx, event(tenant, number));
      tx.afterCommit(() => {
        flushed.set(number, performance.now());
        producer.flush();
      });
    });
  }
  await all.promise;
  await worker.stop();
  return summarise(samples);
};

const latencies = async ({ url, db }: Place): Promise<Record<string, Summary>> => {
  const own = await registered(db, "own");
  const sameProcess = await latency(db, own, own);
  const near = new DirectConnection({ url });
  const far = new DirectConnection({ url });
  await Promise.all([near.start(), far.start()]);
  const producer = await registered(db, "producer", near);
  const worker = await registered(db, "worker", far);
  const otherInstance = await latency(db, producer, worker);
  await Promise.all([near.stop(), far.stop()]);
  return { same_process: sameProcess, other_instance: otherInstance };
};

const medianOf = (drains: readonly Drain[], pick: (drain: Drain) => number): Summary =>
  summarise(drains.map(pick));

/**
 * The outbox on an embedded server that waits for its disk: rate and WAL of writing and of draining
 * 100,000 messages over 64 partitions, and the delay of a message at 100 per second. Fails when a
 * message is missing, comes twice or comes out of order.
 */
export const run = async (): Promise<object> => {
  const dir = await mkdtemp(join(tmpdir(), "mini-chat-bench-"));
  // As root the server runs as another account, which has to pass.
  await chmod(dir, 0o755);
  const server = await startEmbedded({ dataDir: dir });
  try {
    await migrate({ url: server.url, mode: "auto" });
    const db = openDb(server.url);
    try {
      const drains: Drain[] = [];
      for (let round = 0; round < ROUNDS; round += 1) drains.push(await drainOnce({ url: server.url, db }));
      return {
        messages: MESSAGES,
        partitions: PARTITIONS,
        enqueued_per_second: medianOf(drains, (drain) => drain.enqueuedPerSecond),
        wal_bytes_per_enqueue: medianOf(drains, (drain) => drain.walPerEnqueue),
        drained_per_second: medianOf(drains, (drain) => drain.drainedPerSecond),
        wal_bytes_per_delivery: medianOf(drains, (drain) => drain.walPerDelivery),
        latency_ms_at_100_per_second: await latencies({ url: server.url, db }),
      };
    } finally {
      await db.close();
    }
  } finally {
    await server.stop();
    await rm(dir, { recursive: true, force: true });
  }
};
