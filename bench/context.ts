import pg from "pg";
import { createChats, send } from "./harness/client.ts";
import { fillChats, type LongChat } from "./harness/fill.ts";
import { digits, nowNs, rounded } from "./harness/measure.ts";
import { type Stack, withStack } from "./harness/stack.ts";
import { type Summary, summarise } from "./support.ts";

const SIZES = [100, 10_000, 100_000] as const;
const ROUNDS = 150;
const WARM_UP = 30;
const TURNS = 50;
const TEXT_BYTES = 400;

/** As a chat is after its last summary: everything covered but the end. */
const summarised = `
  with covered as (
    update messages m
    set is_compressed = true
    where m.chat_id = $1
      and (m.created_at, m.id) <= (
        select created_at, id from messages where chat_id = $1 order by created_at desc, id desc offset 8 limit 1
      )
    returning m.id, m.created_at, m.tenant_id
  )
  insert into thread_summaries (
    id, tenant_id, chat_id, summary_text, token_estimate, summarized_up_to_created_at, summarized_up_to_message_id
  )
  select gen_random_uuid(), tenant_id, $1, repeat('What was said before. ', 90), 500, created_at, id
  from covered
  order by created_at desc, id desc
  limit 1`;

const coverAll = async (stack: Stack, chats: readonly LongChat[]): Promise<void> => {
  const client = new pg.Client({ connectionString: stack.databaseUrl });
  await client.connect();
  try {
    for (const { chatId } of chats) await client.query(summarised, [chatId]);
    await client.query("vacuum analyze messages, thread_summaries");
  } finally {
    await client.end();
  }
};

/** ms from connecting to `stream_started`, which follows transaction 1 and the assembly in it. */
const preflight = async (stack: Stack, chat: LongChat): Promise<number> => {
  let started: number | undefined;
  const begin = nowNs();
  const onBytes = (bytes: Buffer): void => {
    if (bytes.includes("event: stream_started")) started ??= Number(nowNs() - begin) / 1e6;
  };
  await send({ port: stack.serverPort, ...chat, onBytes }).finished;
  if (started === undefined) throw new Error("the turn did not start");
  return started;
};

const measurePreflight = async (stack: Stack): Promise<object> => {
  await stack.setAnswer({ repeat: { count: 20, bytes: 4, interval_ms: 0 } });
  const made = await createChats(stack, SIZES.length * 2);
  const chats = made.map((chat, at): LongChat => ({ ...chat, messages: SIZES[at % SIZES.length] ?? 0 }));
  await fillChats(stack, chats);
  const covered = chats.slice(SIZES.length);
  await coverAll(stack, covered);
  for (let round = 0; round < WARM_UP; round += 1) for (const chat of chats) await preflight(stack, chat);
  const machine = stack.machine();
  const samples = chats.map((): number[] => []);
  for (let round = 0; round < ROUNDS; round += 1) {
    // By turns, so that a busy moment of the machine does not hit one size alone.
    for (const [at, chat] of chats.entries()) samples[at]?.push(await preflight(stack, chat));
  }
  const summaries = samples.map((ms) => rounded(summarise(ms)));
  const view = (from: readonly LongChat[], first: number): object => ({
    ...Object.fromEntries(from.map(({ messages }, at) => [`messages_${messages}_ms`, summaries[first + at]])),
    largest_to_smallest: spread(summaries.slice(first, first + from.length)),
  });
  return {
    without_summary: view(chats.slice(0, SIZES.length), 0),
    with_summary: view(covered, SIZES.length),
    machine: machine(),
  };
};

/** Largest median by smallest. */
const spread = (summaries: readonly Summary[]): number => {
  const medians = summaries.map(({ median }) => median);
  return digits(Math.max(...medians) / Math.min(...medians), 2);
};

/** The parts of a recorded request that a provider reads in order: instructions, then the messages. */
const partsOf = (body: unknown): string[] => {
  const of = (name: string): unknown =>
    typeof body === "object" && body !== null ? Reflect.get(body, name) : undefined;
  const input = of("input");
  return [
    String(of("instructions") ?? ""),
    ...(Array.isArray(input) ? input : []).map((one) => JSON.stringify(one)),
  ];
};

interface Recorded {
  readonly requests: readonly { readonly body: unknown }[];
}

const bytes = (parts: readonly string[]): number =>
  parts.reduce((sum, part) => sum + Buffer.byteLength(part), 0);

/** Share of the bytes of each request that is word for word the beginning of the one before it. */
const measurePrefix = async (stack: Stack): Promise<object> => {
  const control = `http://127.0.0.1:${stack.providerPort}/__sim/requests`;
  const [chat] = await createChats(stack, 1);
  if (chat === undefined) throw new Error("no chat");
  await fetch(control, { method: "DELETE" });
  for (let turn = 1; turn <= TURNS; turn += 1) {
    await stack.setAnswer({ events: [{ text: `answer ${turn} `.padEnd(TEXT_BYTES, ".") }] });
    const content = `question ${turn} `.padEnd(TEXT_BYTES, ".");
    await send({ port: stack.serverPort, ...chat, content }).finished;
  }
  const recorded = (await (await fetch(control)).json()) as Recorded;
  const requests = recorded.requests
    .map(({ body }) => body)
    .filter((body) => JSON.stringify(body).includes('"request_type":"chat"'))
    .map(partsOf);
  const shares = requests.slice(1).map((next, at) => {
    const last = requests[at] ?? [];
    const end = next.findIndex((part, place) => part !== last[place]);
    const known = end < 0 ? next : next.slice(0, end);
    return {
      known: bytes(known),
      all: bytes(next),
      last: bytes(last),
      whole: last.every((part, place) => part === next[place]),
      // No new summary, and no cut of the window that calls for one.
      between: next.length > last.length,
    };
  });
  type Share = (typeof shares)[number];
  const ratio = (of: readonly Share[], whole: (one: Share) => number): number =>
    digits(
      of.reduce((total, { known }) => total + known, 0) / of.reduce((total, one) => total + whole(one), 0),
    );
  const between = shares.filter((one) => one.between);
  return {
    turns: requests.length,
    requests_that_continue_the_last: shares.filter(({ whole }) => whole).length,
    prefix_share: ratio(shares, ({ all }) => all),
    between_summaries: {
      requests: between.length,
      prefix_share: ratio(between, ({ all }) => all),
      share_of_the_last_request_that_is_kept: ratio(between, ({ last }) => last),
    },
  };
};

/**
 * Time until a turn has started, in chats of 100, 10,000 and 100,000 messages, never summarised (and
 * summaries off, so that they stay so) and summarised but for the end; and how much of the requests of a
 * conversation of 50 turns a provider can take from its cache, with every message in the window and with
 * the default one and its summaries.
 */
export const run = async (): Promise<object> => {
  const off = { thread_summary_worker: { enabled: false } };
  const wide = { context: { recent_messages_limit: 100 }, ...off };
  return {
    preflight: await withStack({ users: SIZES.length * 2, config: off }, measurePreflight),
    prefix_without_summaries: await withStack({ users: 1, config: wide }, measurePrefix),
    prefix_by_default: await withStack({ users: 1 }, measurePrefix),
  };
};
