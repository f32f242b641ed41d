import { join } from "node:path";
import pg from "pg";
import { createChats } from "./harness/client.ts";
import { digits, nowNs } from "./harness/measure.ts";
import { type Memory, memoryOf } from "./harness/memory.ts";
import { type Stack, type User, withDirectory, withStack } from "./harness/stack.ts";

const SIZES = [1_000, 100_000] as const;
const FORMATS = ["markdown", "json"] as const;
const characters = 2_160;

interface Chat {
  readonly chatId: string;
  readonly user: User;
  readonly messages: number;
}

const fillStatement = `
  insert into messages (id, tenant_id, chat_id, request_id, role, content, request_kind, model, created_at)
  select
    gen_random_uuid(), $1, $2, gen_random_uuid(), case no % 2 when 1 then 'user' else 'assistant' end,
    repeat('Nothing new under the sun. ', 80), 'chat', 'standard', now() - ($3::int - no) * interval '1 second'
  from generate_series(1, $3::int) as no`;

const fill = async (stack: Stack, chats: readonly Chat[]): Promise<void> => {
  const client = new pg.Client({ connectionString: stack.databaseUrl });
  await client.connect();
  try {
    for (const { user, chatId, messages } of chats)
      await client.query(fillStatement, [user.tenantId, chatId, messages]);
  } finally {
    await client.end();
  }
};

/** Downloads a chat and keeps nothing of it; half way the server tells what it holds. */
const download = async (stack: Stack, file: string, chat: Chat, format: string): Promise<object> => {
  const before = await memoryOf(stack, file);
  const begin = nowNs();
  const response = await fetch(
    `http://127.0.0.1:${stack.serverPort}/v1/chats/${chat.chatId}/export?format=${format}`,
    { headers: { authorization: `Bearer ${chat.user.token}` } },
  );
  if (!response.ok || response.body === null) throw new Error(await response.text());
  let bytes = 0;
  let during: Memory | undefined;
  let looked = 0n;
  for await (const chunk of response.body) {
    bytes += chunk.byteLength;
    if (during !== undefined || bytes < (chat.messages * characters) / 2) continue;
    const from = nowNs();
    during = await memoryOf(stack, file);
    looked = nowNs() - from;
  }
  const mib = (amount: number): number => digits(amount / 1_048_576, 1);
  return {
    seconds: digits(Number(nowNs() - begin - looked) / 1e9, 2),
    mib: mib(bytes),
    half_way_heap_grew_by_mib: mib((during?.heap_used ?? Number.NaN) - before.heap_used),
    half_way_external_grew_by_mib: mib((during?.external ?? Number.NaN) - before.external),
  };
};

/** Time and memory of exporting a chat of 1,000 and one of 100,000 messages, 2,160 characters each. */
export const run = (): Promise<object> =>
  withDirectory(async (own) => {
    const file = join(own, "memory.json");
    const probe = new URL("harness/memory-probe.mjs", import.meta.url).href;
    const server = { nodeArgs: ["--expose-gc", "--import", probe], env: { BENCH_MEMORY_FILE: file } };
    return withStack({ users: 1, server }, async (stack) => {
      const made = await createChats(stack, SIZES.length);
      const chats = made.map((chat, at): Chat => ({ ...chat, messages: SIZES[at] ?? 0 }));
      await fill(stack, chats);
      const machine = stack.machine();
      const result: Record<string, object> = {};
      for (const chat of chats) {
        for (const format of FORMATS) {
          result[`messages_${chat.messages}_${format}`] = await download(stack, file, chat, format);
        }
      }
      return { ...result, machine: machine() };
    });
  });
