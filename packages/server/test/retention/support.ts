import { randomBytes, randomUUID } from "node:crypto";
import { purgeDeps } from "../../src/app/purge.ts";
import { asTenantId } from "../../src/auth/actor.ts";
import type { PurgeDeps } from "../../src/chats/purge.ts";
import { parseConfig } from "../../src/config/schema.ts";
import type { Db } from "../../src/db/pool.ts";
import { createOutbox, type Outbox } from "../../src/outbox/outbox.ts";
import { noLogger } from "../../src/telemetry/log.ts";
import { createMetrics, type Metrics } from "../../src/telemetry/metrics.ts";
import { testConfigTree } from "../support/config.ts";

export const never = new AbortController().signal;

const config = parseConfig(
  testConfigTree({ databaseUrl: "postgres://localhost/none", simulatorPort: 1 }) as object,
);

/** An outbox nobody delivers from; its queues have the default names. */
export const enqueuing = async (db: Db): Promise<Outbox["enqueuer"]> => {
  const outbox = createOutbox({ db, config: config.outbox, instanceId: "retention of the test" });
  await outbox.register();
  return outbox.enqueuer;
};

export const purgeDepsOf = (db: Db, more: Partial<PurgeDeps> = {}): PurgeDeps => ({
  ...purgeDeps({ config, db, logger: noLogger, metrics: createMetrics("t") }),
  ...more,
});

/** The value of a counter, 0 if it was never moved. */
export const counted = async (metrics: Metrics, name: string, reason?: string): Promise<number> => {
  const label = reason === undefined ? "" : `\\{reason="${reason}"\\}`;
  const line = new RegExp(`^t_${name}_total${label} (\\d+)$`, "m").exec(await metrics.render());
  return Number(line?.[1] ?? 0);
};

export interface Chat {
  readonly id: string;
  readonly tenantId: ReturnType<typeof asTenantId>;
  readonly userId: string;
}

export interface ChatOptions {
  readonly tenantId?: string;
  /** Days since it was deleted; undefined: it is not. */
  readonly deletedDaysAgo?: number;
  /** Seconds since its time was over, negative: still to come; undefined: it is not temporary. */
  readonly expiredSecsAgo?: number;
}

/** A chat as it would be after some time. */
export const insertChat = async (db: Db, options: ChatOptions = {}): Promise<Chat> => {
  const { tenantId = randomUUID(), deletedDaysAgo = null, expiredSecsAgo = null } = options;
  const chat = { id: randomUUID(), tenantId: asTenantId(tenantId), userId: randomUUID() };
  await db.query(
    `insert into chats (id, tenant_id, user_id, model, is_temporary, expires_at, created_at, deleted_at)
     values ($1, $2, $3, 'standard', $4::float8 is not null, now() - make_interval(secs => $4::float8),
       now() - interval '400 days', now() - make_interval(secs => $5::float8 * 86400))`,
    [chat.id, chat.tenantId, chat.userId, expiredSecsAgo, deletedDaysAgo],
  );
  return chat;
};

/** A row in every table a chat may have rows in, a completed turn with its answer among them. */
export const fillChat = async (db: Db, chat: Chat): Promise<void> => {
  const [question, answer, turn, file] = [randomUUID(), randomUUID(), randomUUID(), randomUUID()];
  const key = [chat.tenantId, chat.id];
  for (const [id, role] of [
    [question, "user"],
    [answer, "assistant"],
  ]) {
    await db.query(
      `insert into messages (id, tenant_id, chat_id, request_id, role, content)
       values ($3, $1, $2, $4, $5, 'a needle')`,
      [...key, id, turn, role],
    );
  }
  await db.query(
    `insert into chat_turns (id, tenant_id, chat_id, request_id, requester_type, state, request_fingerprint,
       assistant_message_id, completed_at)
     values ($3, $1, $2, $3, 'user', 'completed', $4, $5, now())`,
    [...key, turn, randomBytes(32), answer],
  );
  await db.query(
    `insert into attachments (id, tenant_id, chat_id, uploaded_by_user_id, filename, content_type, size_bytes,
       storage_backend, provider_id, status, attachment_kind, cleanup_status, error_code)
     values ($3, $1, $2, $4, 'a.txt', 'text/plain', 1, 'sim', 'sim', 'failed', 'document', 'done', 'x')`,
    [...key, file, chat.userId],
  );
  const stored = randomUUID();
  await db.query(
    `insert into local_files (id, tenant_id, chat_id, attachment_id, provider_id, name, content_type, bytes)
     values ($3, $1, $2, $4, 'local', 'a', 'text/plain', 8)`,
    [...key, stored, file],
  );
  await db.query(
    `insert into local_file_pieces (tenant_id, chat_id, file_id, no, bytes)
     values ($1, $2, $3, 0, 'a needle'::bytea)`,
    [...key, stored],
  );
  await db.query(
    `insert into local_chunks (tenant_id, chat_id, file_id, no, content, overlap, place_kind, place_from,
       place_to, words)
     values ($1, $2, $3, 0, 'a needle', 0, 'line', 1, 1, 'needle')`,
    [...key, stored],
  );
  await db.query(
    `insert into message_attachments (tenant_id, chat_id, message_id, attachment_id, position)
     values ($1, $2, $3, $4, 0)`,
    [...key, question, file],
  );
  await db.query(
    "insert into message_reactions (tenant_id, chat_id, message_id, user_id, reaction) values ($1, $2, $3, $4, 'like')",
    [...key, answer, chat.userId],
  );
  await db.query(
    `insert into thread_summaries (id, tenant_id, chat_id, summary_text, summarized_up_to_created_at,
       summarized_up_to_message_id)
     values ($3, $1, $2, 'about a needle', now(), $4)`,
    [...key, randomUUID(), answer],
  );
  await db.query(
    `insert into local_files (id, tenant_id, chat_id, attachment_id, provider_id, name, content_type)
     values ($3, $1, $2, $3, 'sim', 'a.txt', 'text/plain')`,
    [...key, file],
  );
  await db.query(
    "insert into local_file_pieces (tenant_id, chat_id, file_id, no, bytes) values ($1, $2, $3, 0, 'a needle')",
    [...key, file],
  );
  await db.query(
    `insert into local_chunks (tenant_id, chat_id, file_id, no, content, overlap, place_kind, place_from,
       place_to, words)
     values ($1, $2, $3, 0, 'a needle', 0, 'line', 1, 1, 'needle')`,
    [...key, file],
  );
  await db.query(
    "insert into turn_events (tenant_id, turn_id, seq, event, data) values ($1, $2, 1, 'delta', '{}')",
    [chat.tenantId, turn],
  );
};

/** Of these chats those that are still there, in the order given. */
export const kept = async (db: Db, chats: readonly Chat[]): Promise<Chat[]> => {
  const { rows } = await db.query<{ id: string }>("select id from chats");
  return chats.filter(({ id }) => rows.some((row) => row.id === id));
};
