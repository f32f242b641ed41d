import pg from "pg";
import { createChats } from "./harness/client.ts";
import { nowNs, residentBytes } from "./harness/measure.ts";
import { type Stack, type User, withStack } from "./harness/stack.ts";

const SIZES = [1_000, 100_000] as const;
const FORMATS = ["markdown", "json"] as const;

const fill = async (client: pg.Client, chatId: string, user: User, messages: number): Promise<void> => {
  await client.query(
    `insert into messages (id, tenant_id, chat_id, request_id, role, content, request_kind, model, created_at)
     select
       gen_random_uuid(), $1, $2, gen_random_uuid(), case no % 2 when 1 then 'user' else 'assistant' end,
       repeat('Nothing new under the sun. ', 20), 'chat', 'standard', now() - ($3::int - no) * interval '1 second'
     from generate_series(1, $3::int) as no`,
    [user.tenantId, chatId, messages],
  );
};

/** Downloads a chat and keeps nothing of it. */
const download = async (stack: Stack, chatId: string, user: User, format: string): Promise<object> => {
  const resident = residentBytes(stack.server.pid);
  let peak = resident;
  const watch = setInterval(() => {
    peak = Math.max(peak, residentBytes(stack.server.pid));
  }, 20);
  const begin = nowNs();
  let bytes = 0;
  try {
    const response = await fetch(
      `http://127.0.0.1:${stack.serverPort}/v1/chats/${chatId}/export?format=${format}`,
      { headers: { authorization: `Bearer ${user.token}` } },
    );
    if (!response.ok || response.body === null) throw new Error(await response.text());
    for await (const chunk of response.body) bytes += chunk.byteLength;
  } finally {
    clearInterval(watch);
  }
  return {
    seconds: Math.round(Number(nowNs() - begin) / 1e7) / 100,
    mib: Math.round(bytes / 104_857.6) / 10,
    server_grows_by_mib: Math.round((peak - resident) / 104_857.6) / 10,
  };
};

/** Time and memory of exporting a chat of 1,000 and one of 100,000 messages, 540 characters each. */
export const run = (): Promise<object> =>
  withStack({ users: 1 }, async (stack) => {
    const client = new pg.Client({ connectionString: stack.databaseUrl });
    await client.connect();
    try {
      const result: Record<string, object> = {};
      const chats = await createChats(stack, SIZES.length);
      for (const [at, { chatId, user }] of chats.entries()) await fill(client, chatId, user, SIZES[at] ?? 0);
      const machine = stack.machine();
      for (const [at, { chatId, user }] of chats.entries()) {
        for (const format of FORMATS) {
          result[`messages_${SIZES[at]}_${format}`] = await download(stack, chatId, user, format);
        }
      }
      return { ...result, machine: machine() };
    } finally {
      await client.end();
    }
  });
