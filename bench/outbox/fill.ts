import type { Db } from "../../packages/server/src/db/pool.ts";
import { inTransaction } from "../../packages/server/src/db/tx.ts";
import type { OutboxEvent } from "../../packages/server/src/outbox/events.ts";
import type { Outbox } from "../../packages/server/src/outbox/outbox.ts";
import type { QueueKind } from "../../packages/server/src/outbox/queue.ts";
import { defaultConfig, numberField, tenants, usageEvent } from "./queue.ts";

export interface FillOptions {
  readonly perTenant: number;
  readonly producers: number;
  /** Messages of one transaction. */
  readonly batch: number;
}

/** Writes a numbered backlog through the product's own door; returns its seconds. */
export const fill = async (db: Db, outbox: Outbox, options: FillOptions): Promise<number> => {
  const begin = performance.now();
  const todo = [...tenants];
  const produce = async (): Promise<void> => {
    for (let tenant = todo.shift(); tenant !== undefined; tenant = todo.shift()) {
      for (let from = 0; from < options.perTenant; from += options.batch) {
        const length = Math.min(options.batch, options.perTenant - from);
        const events = Array.from(
          { length },
          (_, at): OutboxEvent => ({ kind: "usage", event: usageEvent(`${tenant}`, from + at) }),
        );
        await inTransaction(db, (tx) => outbox.enqueuer.enqueueMany(tx, events));
      }
    }
  };
  await Promise.all(Array.from({ length: options.producers }, produce));
  return (performance.now() - begin) / 1_000;
};

export interface Share {
  readonly kind: QueueKind;
  readonly partition: number;
  readonly count: number;
}

/**
 * A backlog too large to write one by one in the time of a benchmark, written by the server itself: the
 * same rows the enqueuer makes, numbered from 0 within each partition, the partitions mixed.
 */
export const fillFast = async (db: Db, shares: readonly Share[], keysPerPartition = 1): Promise<void> => {
  const payload = JSON.stringify(usageEvent("TENANT-ID", 0));
  const [before = "", after = ""] = payload.split(`${numberField}0`);
  const rounds = 50;
  for (let round = 0; round < rounds; round += 1) {
    await db.query(
      `
      insert into outbox_message (partition_id, tenant_id, order_key, kind, payload)
      select
        p.id, t.tenant_id, t.tenant_id, s.kind,
        replace($6, 'TENANT-ID', t.tenant_id::text) || $8 || n || $7
      from unnest($1::text[], $2::text[], $3::int[], $4::int[], $5::int[])
        as s (queue, kind, no, first_number, next_number)
      join outbox_partition p on p.queue = s.queue and p.no = s.no
      cross join lateral generate_series(s.first_number, s.next_number - 1) as n
      cross join lateral (
        select (
          '5eed0000-0000-4000-8000-' || lpad(to_hex((n % $9) * 256 + s.no), 12, '0')
        )::uuid as tenant_id
      ) t
      order by n, s.no`,
      [
        shares.map(({ kind }) => queueNames[kind]),
        shares.map(({ kind }) => kind),
        shares.map(({ partition }) => partition),
        shares.map(({ count }) => Math.floor((count * round) / rounds)),
        shares.map(({ count }) => Math.floor((count * (round + 1)) / rounds)),
        before,
        after,
        numberField,
        keysPerPartition,
      ],
    );
  }
};

const queueNames: Readonly<Record<QueueKind, string>> = {
  usage: defaultConfig.queue_name,
  attachment_cleanup: defaultConfig.cleanup_queue_name,
  chat_cleanup: defaultConfig.chat_cleanup_queue_name,
  thread_summary: defaultConfig.thread_summary_queue_name,
  audit: defaultConfig.audit_queue_name,
  doc_summary: defaultConfig.doc_summary_queue_name,
};
