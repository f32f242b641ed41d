import pg from "pg";
import { createChats, send } from "./harness/client.ts";
import { digits, nowNs, rounded } from "./harness/measure.ts";
import { type Stack, type User, withStack } from "./harness/stack.ts";
import { type Summary, summarise } from "./support.ts";

const SIZES = [100, 10_000, 100_000] as const;
const ROUNDS = 150;
const WARM_UP = 30;

interface Chat {
  readonly messages: number;
  readonly chatId: string;
  readonly user: User;
}

/** Messages and turns as a chat of that length has them, a second apart, up to an hour ago. */
const fillStatements = [
  `insert into messages (
     id, tenant_id, chat_id, request_id, role, content, request_kind, model, input_tokens, output_tokens, created_at
   )
   select
     md5($2::text || no)::uuid, $1, $2::uuid, md5($2::text || 'turn' || (no - 1) / 2)::uuid,
     case no % 2 when 1 then 'user' else 'assistant' end,
     repeat('Nothing new under the sun. ', 20), 'chat',
     case no % 2 when 0 then 'standard' end,
     case no % 2 when 0 then 50 else 0 end, case no % 2 when 0 then 12 else 0 end,
     now() - interval '1 hour' - ($3::int - no) * interval '1 second'
   from generate_series(1, $3::int) as no`,
  `insert into chat_turns (
     id, tenant_id, chat_id, request_id, requester_type, requester_user_id, state, effective_model,
     assistant_message_id, request_fingerprint, started_at, updated_at, completed_at,
     reserve_tokens, reserved_credits_micro, policy_version_applied, max_output_tokens_applied,
     minimal_generation_floor_applied, effective_tier, input_multiplier_micro_applied,
     output_multiplier_micro_applied
   )
   select
     md5($2::text || 'id' || no)::uuid, $1, $2::uuid, md5($2::text || 'turn' || no - 1)::uuid, 'user', $4,
     'completed', 'standard', md5($2::text || no * 2)::uuid, decode(repeat('00', 32), 'hex'), at, at, at,
     1000, 1000, 1, 1000, 50, 'standard', 1000000, 3000000
   from generate_series(1, $3::int / 2) as no,
     lateral (select now() - interval '1 hour' - ($3::int - no * 2 + 1) * interval '1 second') as clock (at)`,
] as const;

const fill = async (stack: Stack, chats: readonly Chat[]): Promise<void> => {
  const client = new pg.Client({ connectionString: stack.databaseUrl });
  await client.connect();
  try {
    for (const { user, chatId, messages } of chats) {
      const [ofMessages, ofTurns] = fillStatements;
      await client.query(ofMessages, [user.tenantId, chatId, messages]);
      await client.query(ofTurns, [user.tenantId, chatId, messages, user.userId]);
    }
    // What autovacuum does within a minute.
    await client.query("vacuum analyze messages, chat_turns");
    await client.query("checkpoint").catch(() => {});
  } finally {
    await client.end();
  }
};

const list = async (stack: Stack, { chatId, user }: Chat, cursor?: string): Promise<string> => {
  const query = cursor === undefined ? "" : `?cursor=${encodeURIComponent(cursor)}`;
  const response = await fetch(`http://127.0.0.1:${stack.serverPort}/v1/chats/${chatId}/messages${query}`, {
    headers: { authorization: `Bearer ${user.token}` },
  });
  const page: unknown = await response.json();
  const info: unknown =
    typeof page === "object" && page !== null ? Reflect.get(page, "page_info") : undefined;
  if (!response.ok || typeof info !== "object" || info === null) throw new Error(JSON.stringify(page));
  return String(Reflect.get(info, "next_cursor"));
};

const timed = async (work: () => Promise<unknown>): Promise<number> => {
  const begin = nowNs();
  await work();
  return Number(nowNs() - begin) / 1e6;
};

type Figure = "send_to_started" | "send_to_done" | "list_newest" | "list_next_page";

const play = async (stack: Stack, chat: Chat): Promise<Record<Figure, number>> => {
  let started: number | undefined;
  const begin = nowNs();
  const onBytes = (bytes: Buffer): void => {
    if (bytes.includes("event: stream_started")) started ??= Number(nowNs() - begin) / 1e6;
  };
  const done = await timed(() => send({ port: stack.serverPort, ...chat, onBytes }).finished);
  let cursor = "";
  const newest = await timed(async () => {
    cursor = await list(stack, chat);
  });
  return {
    send_to_started: started ?? Number.NaN,
    send_to_done: done,
    list_newest: newest,
    list_next_page: await timed(() => list(stack, chat, cursor)),
  };
};

/** Largest median by smallest. */
const spread = (summaries: readonly Summary[]): number => {
  const medians = summaries.map(({ median }) => median);
  return digits(Math.max(...medians) / Math.min(...medians), 2);
};

/** Latency of sending and of listing in chats of 100, 10,000 and 100,000 messages, by turns. */
export const run = (): Promise<object> =>
  withStack({ users: SIZES.length }, async (stack) => {
    await stack.setAnswer({ repeat: { count: 20, bytes: 4, interval_ms: 0 } });
    const made = await createChats(stack, SIZES.length);
    const chats = made.map((chat, at): Chat => ({ ...chat, messages: SIZES[at] ?? 0 }));
    await fill(stack, chats);
    for (let round = 0; round < WARM_UP; round += 1) for (const chat of chats) await play(stack, chat);
    const machine = stack.machine();
    const samples = chats.map((): Record<Figure, number>[] => []);
    for (let round = 0; round < ROUNDS; round += 1) {
      for (const [at, chat] of chats.entries()) samples[at]?.push(await play(stack, chat));
    }
    const figures = ["send_to_started", "send_to_done", "list_newest", "list_next_page"] as const;
    return {
      ...Object.fromEntries(
        figures.map((figure) => {
          const summaries = samples.map((rows) => rounded(summarise(rows.map((row) => row[figure]))));
          const named = chats.map(({ messages }, at) => [`messages_${messages}_ms`, summaries[at]]);
          return [figure, { ...Object.fromEntries(named), largest_to_smallest: spread(summaries) }];
        }),
      ),
      machine: machine(),
    };
  });
