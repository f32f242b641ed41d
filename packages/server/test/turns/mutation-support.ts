import type { Db } from "../../src/db/pool.ts";
import { type Caller, callers } from "../support/config.ts";
import { type OpenedStream, openStream } from "../support/stream.ts";

export const ops = ["retry", "edit", "delete"] as const;
export type Op = (typeof ops)[number];

export interface MutateOptions {
  readonly caller?: Caller;
  /** With the question mark. */
  readonly query?: string;
  /** Of an edit; default: another question. */
  readonly body?: unknown;
}

export const newQuestion = "And next week?";

/** Retries, edits or deletes a turn and resolves when the answer's headers are in. */
export const mutate = (
  server: { readonly base: string },
  op: Op,
  turn: { readonly chatId: string; readonly requestId: string },
  options: MutateOptions = {},
): Promise<OpenedStream> => {
  const { caller = callers.ann, query = "", body = { content: newQuestion } } = options;
  const path = `/chats/${turn.chatId}/turns/${turn.requestId}${op === "retry" ? "/retry" : ""}`;
  return openStream(`${server.base}${path}${query}`, {
    method: { retry: "POST", edit: "PATCH", delete: "DELETE" }[op],
    headers: { authorization: `Bearer ${caller.token}` },
    ...(op === "edit" ? { body } : {}),
  });
};

/** Reads a replaced turn's stream to its end; the id of the new turn. */
export const successorOf = async (stream: OpenedStream): Promise<string> => {
  if (stream.status !== 200) throw new Error(`refused: ${JSON.stringify(await stream.problem())}`);
  const [started] = await stream.rest();
  return String(started?.data["request_id"]);
};

/** Tables a process writes for itself; of the outbox only what is delivered moves. */
const ofTheMachinery = ["app_instances", "outbox_partition", "schema_migrations"];

/** The heartbeat of turns that run beside the test moves two columns by itself (turns.md §8). */
const turnRows = `
  select
    (to_jsonb(t) - case when state = 'running' then array['last_progress_at', 'updated_at'] else '{}' end)::text
      as row
  from chat_turns t
  order by 1`;

/** Every row of every table as text, byte for byte; for an application that delivers nothing. */
export const wholeDatabase = async (db: Db): Promise<Record<string, string[]>> => {
  const { rows: tables } = await db.query<{ name: string }>(
    "select tablename as name from pg_tables where schemaname = 'public' order by tablename",
  );
  const all: Record<string, string[]> = {};
  for (const { name } of tables.filter((one) => !ofTheMachinery.includes(one.name))) {
    const { rows } = await db.query<{ row: string }>(
      name === "chat_turns" ? turnRows : `select t::text as row from ${name} t order by 1`,
    );
    all[name] = rows.map(({ row }) => row);
  }
  return all;
};

export interface StoredTurn {
  readonly id: string;
  readonly requestId: string;
  readonly state: string;
  readonly deleted: boolean;
  readonly replacedBy: string | null;
  readonly reserveTokens: bigint | null;
}

/** All turns of a chat, oldest first. */
export const turnsOf = async ({ db }: { readonly db: Db }, chatId: string): Promise<StoredTurn[]> =>
  (
    await db.query<StoredTurn>(
      `select id, request_id as "requestId", state, deleted_at is not null as deleted,
         replaced_by_request_id as "replacedBy", reserve_tokens as "reserveTokens"
       from chat_turns
       where chat_id = $1
       order by started_at, id`,
      [chatId],
    )
  ).rows;
