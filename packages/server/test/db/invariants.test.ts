import { randomBytes } from "node:crypto";
import { afterAll, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { inTransaction } from "../../src/db/tx.ts";
import { uuidV4 } from "../../src/lib/id.ts";
import { createTestDatabase, type TestDatabase } from "../support/database.ts";

/** The schema invariants of data.md §9 that the schema itself keeps. */

let database: TestDatabase;
let tenant: string;
let chat: string;

beforeAll(async () => {
  database = await createTestDatabase();
});
afterAll(() => database.drop());
beforeEach(async () => {
  tenant = uuidV4();
  chat = await newChat();
});

type Values = Record<string, unknown>;

const insert = async (table: string, values: Values): Promise<string> => {
  const names = Object.keys(values);
  await database.db.query(
    `insert into ${table} (${names.join(", ")}) values (${names.map((_, index) => `$${index + 1}`).join(", ")})`,
    Object.values(values),
  );
  return String(values.id);
};

const newChat = (): Promise<string> =>
  insert("chats", { id: uuidV4(), tenant_id: tenant, user_id: uuidV4(), model: "m" });

const message = (more: Values = {}): Promise<string> =>
  insert("messages", {
    id: uuidV4(),
    tenant_id: tenant,
    chat_id: chat,
    request_id: uuidV4(),
    role: "assistant",
    ...more,
  });

const turn = (more: Values = {}): Promise<string> =>
  insert("chat_turns", {
    id: uuidV4(),
    tenant_id: tenant,
    chat_id: chat,
    request_id: uuidV4(),
    requester_type: "user",
    state: "running",
    request_fingerprint: randomBytes(32),
    last_progress_at: "now",
    ...more,
  });

const attachment = (more: Values = {}): Promise<string> =>
  insert("attachments", {
    id: uuidV4(),
    tenant_id: tenant,
    chat_id: chat,
    uploaded_by_user_id: uuidV4(),
    filename: "a.txt",
    content_type: "text/plain",
    size_bytes: 1,
    storage_backend: "openai",
    provider_id: "openai",
    status: "pending",
    attachment_kind: "document",
    ...more,
  });

const link = (messageId: string, attachmentId: string): Promise<string> =>
  insert("message_attachments", {
    tenant_id: tenant,
    chat_id: chat,
    message_id: messageId,
    attachment_id: attachmentId,
    position: 0,
  });

const reserve = {
  reserve_tokens: 1,
  reserved_credits_micro: 1,
  policy_version_applied: 1,
  max_output_tokens_applied: 1,
  minimal_generation_floor_applied: 1,
  effective_model: "m",
  effective_tier: "standard",
  input_multiplier_micro_applied: 1,
  output_multiplier_micro_applied: 1,
};

const refusedBy = (constraint: string, code: string) => ({ constraint, code });
const [foreignKey, unique, check] = ["23503", "23505", "23514"];

test("1: of two concurrent running turns of a chat one is a unique violation", async () => {
  const results = await Promise.allSettled([turn(), turn()]);
  expect(results.map((result) => result.status).sort()).toEqual(["fulfilled", "rejected"]);
  expect(results.find((result) => result.status === "rejected")?.reason).toMatchObject(
    refusedBy("chat_turns_running_key", unique),
  );
});

test("1: a request id is never used twice in a chat, not even after deletion", async () => {
  const requestId = uuidV4();
  await turn({ request_id: requestId, state: "failed", completed_at: "now", deleted_at: "now" });
  await expect(turn({ request_id: requestId })).rejects.toMatchObject(
    refusedBy("chat_turns_request_key", unique),
  );
});

describe("2: a child with a tenant different from its chat is a foreign key error", () => {
  test.each([
    ["messages", () => message({ tenant_id: uuidV4() })],
    ["chat_turns", () => turn({ tenant_id: uuidV4() })],
    ["attachments", () => attachment({ tenant_id: uuidV4() })],
    [
      "thread_summaries",
      () =>
        insert("thread_summaries", {
          id: uuidV4(),
          tenant_id: uuidV4(),
          chat_id: chat,
          summary_text: "s",
          summarized_up_to_created_at: "now",
          summarized_up_to_message_id: uuidV4(),
        }),
    ],
    [
      "chat_vector_stores",
      () =>
        insert("chat_vector_stores", {
          id: uuidV4(),
          tenant_id: uuidV4(),
          chat_id: chat,
          provider: "p",
          provider_id: "p",
        }),
    ],
    [
      "message_reactions",
      async () =>
        insert("message_reactions", {
          tenant_id: uuidV4(),
          chat_id: chat,
          message_id: await message(),
          user_id: uuidV4(),
          reaction: "like",
        }),
    ],
  ])("%s", async (table, insertChild) => {
    await expect(insertChild()).rejects.toMatchObject(refusedBy(`${table}_chat_fkey`, foreignKey));
  });
});

test("3: linking a message to an attachment of another chat is a foreign key error", async () => {
  const mine = await message();
  const other = await newChat();
  const foreign = await attachment({ chat_id: other });
  await expect(link(mine, foreign)).rejects.toMatchObject(
    refusedBy("message_attachments_attachment_fkey", foreignKey),
  );
});

test("3: a turn cannot take a message of another chat as its answer", async () => {
  const other = await newChat();
  const foreign = await message({ chat_id: other });
  await expect(turn({ assistant_message_id: foreign })).rejects.toMatchObject(
    refusedBy("chat_turns_answer_fkey", foreignKey),
  );
});

describe("4: turns that contradict themselves are check errors", () => {
  test.each<[string, string, Values]>([
    ["terminal without completed_at", "chat_turns_completed_at_check", { state: "failed" }],
    ["running with completed_at", "chat_turns_completed_at_check", { completed_at: "now" }],
    ["running without progress", "chat_turns_progress_check", { last_progress_at: null }],
    ["half a reserve", "chat_turns_reserve_check", { reserve_tokens: 1 }],
    [
      "a short fingerprint",
      "chat_turns_request_fingerprint_check",
      { request_fingerprint: Buffer.from("short") },
    ],
    ["an unknown state", "chat_turns_state_check", { state: "paused", completed_at: "now" }],
  ])("%s", async (_case, constraint, values) => {
    await expect(turn(values)).rejects.toMatchObject(refusedBy(constraint, check));
  });

  test("completed without an answer, at commit", async () => {
    const id = await turn();
    await expect(complete(id, null)).rejects.toMatchObject(refusedBy("chat_turns_answer_check", check));
  });
});

const complete = (id: string, messageId: string | null): Promise<void> =>
  inTransaction(database.db, async (tx) => {
    await tx.query("update chat_turns set state = 'completed', completed_at = now() where id = $1", [id]);
    if (messageId !== null) {
      await tx.query(
        "insert into messages (id, tenant_id, chat_id, request_id, role) values ($1, $2, $3, $4, 'assistant')",
        [messageId, tenant, chat, uuidV4()],
      );
      await tx.query("update chat_turns set assistant_message_id = $2 where id = $1", [id, messageId]);
    }
  });

test("4: the answer may be stored after the turn ended, in the same transaction", async () => {
  await complete(await turn(), uuidV4());
});

test("4: a completed turn loses its answer only together with the message", async () => {
  const id = await turn();
  const answer = uuidV4();
  await complete(id, answer);
  await expect(
    database.db.query("update chat_turns set assistant_message_id = null where id = $1", [id]),
  ).rejects.toMatchObject(refusedBy("chat_turns_answer_check", check));
  await database.db.query("delete from messages where id = $1", [answer]);
  const { rows } = await database.db.query("select assistant_message_id from chat_turns where id = $1", [id]);
  expect(rows).toEqual([{ assistant_message_id: null }]);
});

test("4: the reserve is written once", async () => {
  const id = await turn();
  const names = Object.keys(reserve);
  const fill = (values: Values): Promise<unknown> =>
    database.db.query(
      `update chat_turns set ${names.map((name, index) => `${name} = $${index + 2}`).join(", ")} where id = $1`,
      [id, ...Object.values(values)],
    );
  await fill(reserve);
  await fill(reserve);
  await expect(fill({ ...reserve, reserve_tokens: 2 })).rejects.toMatchObject(
    refusedBy("chat_turns_reserve_immutable", check),
  );
});

test.each<[string, string]>([
  ["chats", "tenant_id = gen_random_uuid()"],
  ["chats", "user_id = gen_random_uuid()"],
  ["chats", "model = 'other'"],
])("the owner and the model of %s never change: %s", async (table, change) => {
  await expect(
    database.db.query(`update ${table} set ${change} where id = $1`, [chat]),
  ).rejects.toMatchObject(refusedBy("chats_owner_immutable", check));
});

describe("5: attachments that contradict themselves are check errors", () => {
  const thumbnail = { img_thumbnail: Buffer.of(1), img_thumbnail_width: 1, img_thumbnail_height: 1 };
  test.each<[string, string, Values]>([
    ["ready without provider file", "attachments_ready_check", { status: "ready" }],
    ["a thumbnail on a document", "attachments_thumbnail_check", thumbnail],
    [
      "a thumbnail without its size",
      "attachments_thumbnail_check",
      { attachment_kind: "image", img_thumbnail: Buffer.of(1) },
    ],
    [
      "a summary of an image",
      "attachments_doc_summary_check",
      { attachment_kind: "image", doc_summary: "s" },
    ],
    ["failed without a code", "attachments_failed_check", { status: "failed" }],
    ["a code without failure", "attachments_failed_check", { error_code: "x" }],
    ["a negative size", "attachments_size_bytes_check", { size_bytes: -1 }],
  ])("%s", async (_case, constraint, values) => {
    await expect(attachment(values)).rejects.toMatchObject(refusedBy(constraint, check));
  });
});

test("6: purging a chat leaves no row with its id in any table, quota and outbox untouched", async () => {
  const question = await message({ role: "user" });
  const answer = uuidV4();
  const turnId = await turn({ ...reserve });
  await complete(turnId, answer);
  await link(question, await attachment());
  await link(question, await attachment({ deleted_at: "now" }));
  await insert("turn_events", { turn_id: turnId, seq: 0, event: "delta", data: "{}", tenant_id: tenant });
  await insert("thread_summaries", {
    id: uuidV4(),
    tenant_id: tenant,
    chat_id: chat,
    summary_text: "s",
    summarized_up_to_created_at: "now",
    summarized_up_to_message_id: question,
  });
  await insert("chat_vector_stores", {
    id: uuidV4(),
    tenant_id: tenant,
    chat_id: chat,
    provider: "p",
    provider_id: "p",
  });
  await insert("message_reactions", {
    tenant_id: tenant,
    chat_id: chat,
    message_id: answer,
    user_id: uuidV4(),
    reaction: "like",
  });
  await insert("quota_usage", {
    tenant_id: tenant,
    user_id: uuidV4(),
    period_type: "daily",
    period_start: "today",
    bucket: "total",
  });
  await insert("outbox_message", {
    partition_id: 1,
    tenant_id: tenant,
    order_key: chat,
    kind: "k",
    payload: "{}",
  });

  await database.db.query("delete from chats where id = $1", [chat]);

  const left = await database.db.query<{ table: string; count: number }>(`
    select c.relname as table, (xpath(
      '/row/n/text()',
      query_to_xml(format('select count(*) as n from %I where tenant_id = %L', c.relname, '${tenant}'), false, true, '')
    ))[1]::text::int as count
    from pg_attribute a
    join pg_class c on c.oid = a.attrelid and c.relkind = 'r'
    where a.attname = 'tenant_id'
      and c.relnamespace = 'public'::regnamespace
    order by c.relname`);
  const counts = Object.fromEntries(left.rows.map((row) => [row.table, row.count]));
  expect(counts).toMatchObject({ chats: 0, messages: 0, chat_turns: 0, attachments: 0, turn_events: 0 });
  expect(Object.entries(counts).filter(([, count]) => count > 0)).toEqual([
    ["outbox_message", 1],
    ["quota_usage", 1],
  ]);
});

test("counters of a quota row cannot fall below zero", async () => {
  const id = await insert("quota_usage", {
    id: uuidV4(),
    tenant_id: tenant,
    user_id: uuidV4(),
    period_type: "monthly",
    period_start: "today",
    bucket: "tier:premium",
  });
  await expect(
    database.db.query("update quota_usage set reserved_credits_micro = -1 where id = $1", [id]),
  ).rejects.toMatchObject(refusedBy("quota_usage_reserved_credits_micro_check", check));
});

test("a chat expires if and only if it is temporary", async () => {
  const values = { id: uuidV4(), tenant_id: tenant, user_id: uuidV4(), model: "m" };
  const refused = refusedBy("chats_temporary_expires_check", check);
  await expect(insert("chats", { ...values, is_temporary: true })).rejects.toMatchObject(refused);
  await expect(insert("chats", { ...values, expires_at: "now" })).rejects.toMatchObject(refused);
});
