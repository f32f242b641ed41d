import { randomUUID } from "node:crypto";
import pg from "pg";
import { callApi, eventually, type TestApp } from "../support/app.ts";
import { type Caller, callers } from "../support/config.ts";

/** Everything a refusal or a replay must leave as it is (turns.md §23.3, §23.9). */
export const everything = async (app: TestApp): Promise<unknown> =>
  (
    await app.db.query(`
      select
        (select json_agg(t order by id) from chat_turns t) as turns,
        (select json_agg(m order by id) from messages m) as messages,
        (select json_agg(l order by message_id, attachment_id) from message_attachments l) as links,
        (select json_agg(q order by id) from quota_usage q) as quota,
        (select count(*) from outbox_message) as events,
        (select json_agg(updated_at order by id) from chats) as chats`)
  ).rows[0];

export interface AttachmentOptions {
  readonly kind?: "image" | "document";
  readonly status?: string;
  readonly owner?: Caller;
  /** For the code interpreter. */
  readonly forCode?: boolean;
}

/** An attachment as an upload would have left it; its id. */
export const attach = async (
  app: TestApp,
  chatId: string,
  options: AttachmentOptions = {},
): Promise<string> => {
  const { kind = "image", status = "ready", owner = callers.ann, forCode = false } = options;
  const id = randomUUID();
  await app.db.query(
    `insert into attachments (id, tenant_id, chat_id, uploaded_by_user_id, filename, content_type, size_bytes,
       storage_backend, provider_id, provider_file_id, status, attachment_kind, for_code_interpreter)
     values ($1, $2, $3, $4, 'a', 'image/png', 1, 'sim', 'sim', $5, $6, $7, $8)`,
    [id, owner.tenantId, chatId, owner.userId, `file-${id}`, status, kind, forCode],
  );
  return id;
};

export interface TurnRow {
  readonly id: string;
  readonly state: string;
  readonly errorCode: string | null;
  readonly messageId: string | null;
  readonly webSearches: number;
}

export const turnRow = async (app: TestApp, requestId: string): Promise<TurnRow> => {
  const { rows } = await app.db.query<TurnRow>(
    `select id, state, error_code as "errorCode", assistant_message_id as "messageId",
       web_search_completed_count as "webSearches"
     from chat_turns
     where request_id = $1`,
    [requestId],
  );
  const [row, ...more] = rows;
  if (row === undefined || more.length > 0) throw new Error(`${rows.length} turns of ${requestId}`);
  return row;
};

/** Resolves with the turn once it is not running any more. */
export const ended = async (app: TestApp, requestId: string): Promise<TurnRow> => {
  await eventually(async () => (await turnRow(app, requestId)).state !== "running");
  return turnRow(app, requestId);
};

type Event = Record<string, unknown>;

/** The one usage and the one audit event of a turn, on the outbox of an application in the role `api`. */
export const eventsOf = async (app: TestApp, requestId: string): Promise<{ usage: Event; audit: Event }> => {
  const { rows } = await app.db.query<{ payload: string }>(
    "select payload from outbox_message where payload like '%' || $1 || '%'",
    [requestId],
  );
  const events = rows.map((row) => JSON.parse(row.payload) as Event);
  const [usage, ...doubledUsage] = events.filter((event) => event["type"] === undefined);
  const [audit, ...doubledAudit] = events.filter((event) => event["type"] === "turn");
  if (usage === undefined || audit === undefined || doubledUsage.length + doubledAudit.length > 0) {
    throw new Error(`not one usage and one audit event: ${JSON.stringify(events)}`);
  }
  return { usage, audit };
};

export interface Credits {
  readonly spent: bigint;
  readonly reserved: bigint;
  readonly calls: number;
}

/** What a user has spent and holds in a bucket; the same in both periods, as within one test it must be. */
export const creditsOf = async (
  app: TestApp,
  caller: Caller,
  bucket: "total" | "tier:premium" = "total",
): Promise<Credits> => {
  const { rows } = await app.db.query<Credits>(
    `select distinct spent_credits_micro as spent, reserved_credits_micro as reserved, calls
     from quota_usage
     where user_id = $1
       and bucket = $2`,
    [caller.userId, bucket],
  );
  if (rows.length > 1) throw new Error("day and month differ");
  return rows[0] ?? { spent: 0n, reserved: 0n, calls: 0 };
};

/** The samples of the exposition whose name is `mini_chat_{name}`, by their labels. */
export const samples = async (app: TestApp, name: string): Promise<Map<string, number>> => {
  const { body } = await callApi(`${app.opsBase}/metrics`, "GET", { caller: null });
  const found = String(body).matchAll(/^mini_chat_([a-z0-9_]+)(?:\{(.*)\})? (\S+)$/gm);
  return new Map([...found].filter(([, key]) => key === name).map(([, , l = "", v]) => [l, Number(v)]));
};

/** The sum over all labels of a metric. */
export const total = async (app: TestApp, name: string): Promise<number> =>
  [...(await samples(app, name)).values()].reduce((sum, value) => sum + value, 0);

/** Runs `during` while a statement of the test's locks rows, and lets go when it resolves. */
export const whileLocked = async <T>(app: TestApp, lock: string, during: () => Promise<T>): Promise<T> => {
  const client = new pg.Client({ connectionString: app.database.url });
  await client.connect();
  try {
    await client.query("begin");
    await client.query(lock);
    return await during();
  } finally {
    await client.query("rollback");
    await client.end();
  }
};

/** Resolves when somebody waits for a lock. */
export const someoneWaits = (app: TestApp): Promise<void> =>
  eventually(async () => {
    const { rowCount } = await app.database.db.query(
      "select from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'",
    );
    return rowCount > 0;
  });
