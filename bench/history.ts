import { createChats, send } from "./harness/client.ts";
import { fillChats, type LongChat } from "./harness/fill.ts";
import { digits, nowNs, rounded } from "./harness/measure.ts";
import { type Stack, withStack } from "./harness/stack.ts";
import { type Summary, summarise } from "./support.ts";

const SIZES = [100, 10_000, 100_000] as const;
const ROUNDS = 150;
const WARM_UP = 30;

const list = async (stack: Stack, { chatId, user }: LongChat, cursor?: string): Promise<string> => {
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

const play = async (stack: Stack, chat: LongChat): Promise<Record<Figure, number>> => {
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
    const chats = made.map((chat, at): LongChat => ({ ...chat, messages: SIZES[at] ?? 0 }));
    await fillChats(stack, chats);
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
