import type { DirectConnection } from "../../packages/server/src/db/direct.ts";
import { Db } from "../../packages/server/src/db/pool.ts";
import type { UsageEvent } from "../../packages/server/src/outbox/events.ts";
import {
  done,
  type Handlers,
  type Message,
  type QueueHandler,
} from "../../packages/server/src/outbox/message.ts";
import { createOutbox, type Outbox, type OutboxConfig } from "../../packages/server/src/outbox/outbox.ts";
import type { QueueOptions } from "../../packages/server/src/outbox/queue.ts";
import type { Ledger } from "./ledger.ts";

export const partitions = 64;

/** The defaults of ops.md §2.4, with all partitions there can be. */
export const defaultConfig: OutboxConfig = {
  num_partitions: partitions,
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
};

/** One tenant per partition: its last byte is the partition. The same ones in every process. */
export const tenants: readonly string[] = Array.from(
  { length: partitions },
  (_, partition) => `5eed0000-0000-4000-8000-0000000000${partition.toString(16).padStart(2, "0")}`,
);

const positions = new Map(tenants.map((tenant, at) => [tenant, at]));

/** Position of a tenant in `tenants`. */
export const positionOf = (tenantId: string): number => positions.get(tenantId) ?? Number.NaN;

/** A usage event of an everyday turn, about 800 bytes; the number rides in `web_search_calls`. */
export const usageEvent = (tenantId: string, number: number): UsageEvent => ({
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

/** What stands before the number in a payload. */
export const numberField = '"web_search_calls":';

/** The number of a message, found without parsing the rest. */
export const numberOf = ({ payload }: Pick<Message, "payload">): number =>
  Number.parseInt(payload.slice(payload.indexOf(numberField) + numberField.length), 10);

/** A handler that does nothing but note in the ledger what it was handed. */
export const noting =
  (ledger: Ledger): QueueHandler =>
  async (messages) => {
    for (const message of messages) ledger.take(positionOf(message.tenantId), numberOf(message));
    return messages.map(() => done);
  };

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

/** A pool as of the server, with its session limits. */
export const openDb = (url: string, maxConnections = 10): Db =>
  new Db({
    url,
    maxConnections,
    acquireTimeoutMs: 30_000,
    statementTimeoutMs: 120_000,
    lockTimeoutMs: 5_000,
    idleInTransactionTimeoutMs: 30_000,
    applicationName: "mini-chat bench",
  });

export interface OutboxChange {
  readonly direct?: DirectConnection;
  readonly config?: Partial<OutboxConfig>;
  readonly queues?: QueueOptions;
  readonly onPass?: () => void;
}

/** An outbox that is registered and not started. */
export const registered = async (db: Db, instanceId: string, change: OutboxChange = {}): Promise<Outbox> => {
  const outbox = createOutbox({
    db,
    instanceId,
    ...change,
    config: { ...defaultConfig, ...change.config },
  });
  await outbox.register();
  return outbox;
};

/** How many bytes of WAL were written so far. */
export const walPosition = async (db: Db): Promise<number> =>
  Number((await db.query<{ at: string }>("select (pg_current_wal_insert_lsn() - '0/0') as at")).rows[0]?.at);

export const waiting = async (db: Db): Promise<number> =>
  (await db.query<{ left: number }>("select count(*)::int as left from outbox_message")).rows[0]?.left ??
  Number.NaN;

/** Empties the queues, as no run may leave anything to the next one. */
export const empty = async (db: Db): Promise<void> => {
  await db.query("truncate outbox_message, outbox_parked, outbox_dead");
  await db.query(`
    update outbox_partition
    set
      lease_token = null, lease_until = null, locked_by = null, not_before = null, head_id = null,
      head_attempts = 0, last_served_at = null, last_error = null, scan_from = 0, read_from = 0`);
};
