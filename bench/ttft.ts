import { fileURLToPath } from "node:url";
import { createChats, send } from "./harness/client.ts";
import { digits, nowNs, rounded } from "./harness/measure.ts";
import { type Stack, type User, withStack } from "./harness/stack.ts";
import { summarise } from "./support.ts";

interface Level {
  readonly streams: number;
  /** Of each answer, 20 per second. */
  readonly deltas: number;
  /** Until the first one. */
  readonly thinkMs: number;
  readonly forMs: number;
}

const LEVELS = [
  { streams: 1, deltas: 2, thinkMs: 20, forMs: 5_000 },
  { streams: 100, deltas: 100, thinkMs: 250, forMs: 12_000 },
  { streams: 250, deltas: 200, thinkMs: 250, forMs: 20_000 },
  { streams: 500, deltas: 200, thinkMs: 250, forMs: 24_000 },
] as const satisfies readonly Level[];
const INTERVAL_MS = 50;

const provider = fileURLToPath(new URL("harness/provider.ts", import.meta.url));

interface Sample {
  /** First content byte handed to the provider's socket → on the client's socket, ms. */
  readonly added: number;
  /** Connecting → the provider has the whole request, ms. */
  readonly before: number;
}

interface Target {
  readonly port: number;
  readonly path?: string;
}

/** One answer; what it says of its first delta. */
const sample = async (
  target: Target,
  chat: { chatId: string; user: User },
  { deltas, thinkMs }: Pick<Level, "deltas" | "thinkMs">,
): Promise<Sample> => {
  const sentAt = nowNs();
  let head = "";
  let first: Sample | undefined;
  const { finished } = send({
    ...target,
    ...chat,
    content: `answer ${deltas} every ${INTERVAL_MS} after ${thinkMs}`,
    keep: false,
    onBytes: (bytes) => {
      if (first !== undefined) return;
      const now = nowNs();
      head += bytes.toString("latin1");
      const [, received, left] = /"(\d+),(\d+) "/.exec(head) ?? [];
      if (received === undefined || left === undefined) return;
      first = { added: Number(now - BigInt(left)) / 1e6, before: Number(BigInt(received) - sentAt) / 1e6 };
    },
  });
  // What comes straight from the provider has no event `done`.
  await finished.catch((error: unknown) => {
    if (target.path === undefined) throw error;
  });
  if (first === undefined) throw new Error(`no delta in ${head}`);
  return first;
};

const level = async (
  stack: Stack,
  chats: readonly { chatId: string; user: User }[],
  one: Level,
  target: Target,
): Promise<object> => {
  const { streams, deltas, forMs } = one;
  const samples: Sample[] = [];
  const begin = performance.now();
  const machine = stack.machine();
  const cpu = stack.cpu();
  const stream = async (chat: { chatId: string; user: User }, at: number): Promise<void> => {
    // Beginnings spread over one answer, as they are when nobody waits for the other.
    const spread = streams === 1 ? 0 : (at / streams) * deltas * INTERVAL_MS;
    await new Promise((resolve) => setTimeout(resolve, spread));
    do samples.push(await sample(target, chat, one));
    while (performance.now() - begin < forMs - deltas * INTERVAL_MS);
  };
  await Promise.all(chats.slice(0, streams).map(stream));
  const seconds = (performance.now() - begin) / 1_000;
  return {
    added_ms: rounded(summarise(samples.map(({ added }) => added))),
    before_provider_ms: rounded(summarise(samples.map(({ before }) => before))),
    deltas_per_second: digits((samples.length * deltas) / seconds, 0),
    server_cores: digits(cpu().server / 1_000 / seconds, 2),
    machine: machine(),
  };
};

/**
 * What the server adds to the time to the first token, at 1, 100, 250 and 500 streams of 20 deltas per second,
 * and the same at 500 with the client asking the provider itself, which is what the measurement adds.
 */
export const run = (): Promise<object> =>
  withStack({ users: 500, provider: { script: provider, args: [] } }, async (stack) => {
    const chats = await createChats(stack, 500);
    const through = { port: stack.serverPort };
    for (let round = 0; round < 5; round += 1) {
      await Promise.all(chats.slice(0, 50).map((chat) => sample(through, chat, LEVELS[0])));
    }
    const results: Record<string, object> = {};
    for (const one of LEVELS) results[`streams_${one.streams}`] = await level(stack, chats, one, through);
    const most = LEVELS[3];
    const direct = { port: stack.providerPort, path: "/v1/responses" };
    return {
      ...results,
      streams_500_without_server: await level(stack, chats, { ...most, forMs: 10_000 }, direct),
    };
  });
