import pg from "pg";
import type { Stack, User } from "./stack.ts";

/** A chat that is to have so many messages. */
export interface LongChat {
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

/** Fills empty chats, and leaves the tables as autovacuum would. */
export const fillChats = async (
  stack: Pick<Stack, "databaseUrl">,
  chats: readonly LongChat[],
): Promise<void> => {
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
