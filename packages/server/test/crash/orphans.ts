import { randomUUID } from "node:crypto";
import type { Actor } from "../../src/auth/actor.ts";
import type { Db } from "../../src/db/pool.ts";
import { createOutbox } from "../../src/outbox/outbox.ts";
import { noLogger } from "../../src/telemetry/log.ts";
import { noMetrics } from "../../src/telemetry/metrics.ts";
import type { OrphanLimits } from "../../src/turns/finalize-store.ts";
import type { OrphanDeps } from "../../src/turns/orphans.ts";
import { admitted, ampleLimits, model, type SentTurn, send } from "../quota/support.ts";

export const limits: OrphanLimits = { timeoutSecs: 300, deadOwnerSecs: 30, leaseSecs: 15, witnessSecs: 40 };

/** What a watchdog of the test's own needs; its events stay in the outbox. */
export const orphanDeps = async (db: Db): Promise<OrphanDeps> => {
  const outbox = createOutbox({ db, config: outboxConfig, instanceId: "watchdog of the test" });
  await outbox.register();
  return {
    db,
    outbox: outbox.enqueuer,
    metrics: noMetrics,
    logger: noLogger,
    overshootToleranceBp: 11_000n,
  };
};

const outboxConfig = {
  num_partitions: 4,
  queue_name: "mini-chat.usage_snapshot",
  cleanup_queue_name: "mini-chat.attachment_cleanup",
  chat_cleanup_queue_name: "mini-chat.chat_cleanup",
  thread_summary_queue_name: "mini-chat.thread_summary",
  audit_queue_name: "mini-chat.audit",
  doc_summary_queue_name: "mini-chat.doc_summary",
  poll_interval_ms: 1_000,
  processors: 1,
  batch_size: 100,
  claim_partitions: 4,
  retry_base_ms: 1_000,
  retry_max_ms: 60_000,
  notify: false,
};

export interface Orphan {
  /** Seconds since the last progress. */
  readonly silentSecs: number;
  /** Seconds since its owner was seen; null: it is not on the list; undefined: it has none. */
  readonly ownerSilentSecs?: number | null;
  readonly deleted?: boolean;
  readonly cancelRequested?: boolean;
  readonly tools?: readonly [webSearch: number, codeInterpreter: number, fileSearch: number];
}

const standard = model({ id: "S", tier: "standard" });

/** A running turn with its reserve, as a process may have left it. */
export const insertOrphan = async (db: Db, actor: Actor, orphan: Orphan): Promise<SentTurn> => {
  const turn = admitted(
    await send(db, actor, { models: [standard], estimatedInputTokens: 1_210n, limits: ampleLimits }),
  );
  const { ownerSilentSecs, tools = [0, 0, 0] } = orphan;
  const owner = ownerSilentSecs === undefined ? null : randomUUID();
  if (typeof ownerSilentSecs === "number") {
    await db.query(
      `insert into app_instances (id, role, version, last_seen_at)
       values ($1, 'all', 'test', now() - make_interval(secs => $2))`,
      [owner, ownerSilentSecs],
    );
  }
  await db.query(
    `update chat_turns
     set
       provider_name = 'openai',
       last_progress_at = now() - make_interval(secs => $2),
       owner_instance_id = $3,
       deleted_at = case when $4 then now() end,
       cancel_requested_at = case when $5 then now() end,
       cancel_reason = case when $5 then 'user_stop' end,
       web_search_completed_count = $6,
       code_interpreter_completed_count = $7,
       file_search_completed_count = $8
     where id = $1`,
    [turn.id, orphan.silentSecs, owner, orphan.deleted === true, orphan.cancelRequested === true, ...tools],
  );
  return turn;
};
