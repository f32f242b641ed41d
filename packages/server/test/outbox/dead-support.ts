import { randomUUID } from "node:crypto";
import type { Db } from "../../src/db/pool.ts";
import type { DeadLetterDeps } from "../../src/outbox/dead-letters.ts";
import { queueSettings } from "../../src/outbox/queue.ts";
import { noLogger } from "../../src/telemetry/log.ts";
import { noMetrics } from "../../src/telemetry/metrics.ts";
import {
  countRows,
  enqueueNumbers,
  eventually,
  recorder,
  registeredOutbox,
  serving,
  testConfig,
} from "./support.ts";

export interface DeadRow {
  readonly id: bigint;
  readonly queue: string;
  readonly message_id: string;
  readonly tenant_id: string;
  readonly status: string;
  readonly attempts: number;
  readonly replay_count: number;
  readonly error: string;
  readonly fingerprint: string;
  readonly completed_by: string | null;
  readonly rejected_by: string | null;
  readonly reject_reason: string | null;
  readonly payload: string;
  readonly partition_id: number;
}

export const deadRows = async (db: Db): Promise<DeadRow[]> =>
  (await db.query<DeadRow>("select * from outbox_dead order by id")).rows;

/** Lets one message per number die of this reason, as a worker does it; returns the ids of its dead letters. */
export const letDie = async (
  db: Db,
  tenantId: string,
  numbers: readonly number[],
  reason = "the sink answered 400",
): Promise<bigint[]> => {
  const before = await countRows(db, "outbox_dead");
  const outbox = await registeredOutbox(db);
  await outbox.start(serving({ usage: recorder(() => ({ kind: "reject", reason })).handler }));
  try {
    await enqueueNumbers(outbox, db, tenantId, numbers);
    await eventually(async () => (await countRows(db, "outbox_dead")) === before + numbers.length);
  } finally {
    await outbox.stop();
  }
  return (await deadRows(db)).slice(before).map(({ id }) => id);
};

export interface DeadLetterInsert {
  readonly queue?: string;
  readonly kind?: string;
  readonly tenantId?: string;
  readonly status?: string;
  /** Since it failed, and since it was completed. */
  readonly daysAgo?: number;
  readonly error?: string;
}

/** Dead letters as they would be after some time; their ids. */
export const insertDead = async (db: Db, letters: readonly DeadLetterInsert[]): Promise<bigint[]> => {
  const ids: bigint[] = [];
  for (const letter of letters) {
    const { status = "pending", daysAgo = 0, queue = "usage", tenantId = randomUUID() } = letter;
    const { rows } = await db.query<{ id: bigint }>(
      `insert into outbox_dead (
         queue, partition_id, message_id, tenant_id, order_key, kind, payload, created_at, attempts,
         first_failed_at, last_failed_at, error, fingerprint, status, deadline, completed_at
       )
       select
         $1::varchar, coalesce((select min(id) from outbox_partition where queue = $1::varchar), 0), gen_random_uuid(), $2::uuid, $2::uuid, $3::varchar, '{}',
         at, 1, at, at, $4::text, md5($4::text), $5::varchar,
         case when $5::varchar = 'replaying' then now() + interval '1 hour' end,
         case when $5::varchar in ('resolved', 'discarded') then at end
       from (select now() - make_interval(days => $6::int) as at) t
       returning id`,
      [queue, tenantId, letter.kind ?? "usage", letter.error ?? "boom", status, daysAgo],
    );
    ids.push(...rows.map(({ id }) => id));
  }
  return ids;
};

/** Lets the claims on dead letters run out. */
export const expireClaims = async (db: Db): Promise<void> => {
  await db.query("update outbox_dead set deadline = now() - interval '1 second' where status = 'replaying'");
};

export const depsOf = (db: Db, change: Partial<DeadLetterDeps> = {}): DeadLetterDeps => ({
  db,
  queues: queueSettings(testConfig),
  flush: () => {},
  logger: noLogger,
  metrics: noMetrics,
  ...change,
});
