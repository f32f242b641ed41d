import { setTimeout as sleep } from "node:timers/promises";
import { createChats, send } from "./harness/client.ts";
import { rounded } from "./harness/measure.ts";
import { type Stack, type User, withStack } from "./harness/stack.ts";
import { summarise } from "./support.ts";

const STREAMS = 50;
const ROUNDS = 12;
const INTERVAL_MS = 50;
const LONGEST_MS = 1_000;

interface Capture {
  readonly text: string;
  readonly closedAt: number | null;
  readonly closedBy: string | null;
}

const field = (value: unknown, name: string): unknown =>
  typeof value === "object" && value !== null ? Reflect.get(value, name) : undefined;

/** The provider's side of the latest calls. */
const captures = async (stack: Stack): Promise<Capture[]> => {
  const response = await fetch(`http://127.0.0.1:${stack.providerPort}/__sim/requests?last=${STREAMS}`);
  const requests = field(await response.json(), "requests");
  if (!Array.isArray(requests)) throw new Error("no captured requests");
  return requests.map((request: unknown) => {
    const closedAt = field(request, "closed_at");
    const closedBy = field(request, "closed_by");
    return {
      text: JSON.stringify(field(request, "body")),
      closedAt: typeof closedAt === "number" ? closedAt : null,
      closedBy: typeof closedBy === "string" ? closedBy : null,
    };
  });
};

const allClosed = async (stack: Stack): Promise<Capture[]> => {
  const giveUpAt = performance.now() + 10_000;
  for (;;) {
    const found = await captures(stack);
    if (found.length === STREAMS && found.every(({ closedAt }) => closedAt !== null)) return found;
    if (performance.now() > giveUpAt) throw new Error("a provider's connection is still open");
    await sleep(20);
  }
};

/** Every client leaves at its own moment; ms until the provider's connection was closed. */
const playRound = async (
  stack: Stack,
  chats: readonly { chatId: string; user: User }[],
  round: number,
): Promise<number[]> => {
  const leftAt = new Map<string, number>();
  await Promise.all(
    chats.map(async (chat, at) => {
      const name = `stream-${round}-${at}-`;
      const delta = Promise.withResolvers<void>();
      const onBytes = (bytes: Buffer): void => {
        if (bytes.includes("event: delta")) delta.resolve();
      };
      const { socket, finished } = send({
        port: stack.serverPort,
        ...chat,
        content: name,
        keep: false,
        onBytes,
      });
      await Promise.race([delta.promise, finished]);
      await sleep(Math.random() * LONGEST_MS);
      leftAt.set(name, performance.timeOrigin + performance.now());
      socket.destroy();
    }),
  );
  const closed = await allClosed(stack);
  // Long enough for the turns to be settled: a chat has one at a time.
  await sleep(300);
  return [...leftAt].map(([name, at]) => {
    const capture = closed.find(({ text }) => text.includes(name));
    if (capture?.closedAt === undefined || capture.closedAt === null || capture.closedBy !== "client") {
      throw new Error(`no capture of ${name} that its client closed`);
    }
    return capture.closedAt - at;
  });
};

/**
 * How soon the provider is let go when a client leaves in the middle of an answer, 50 of them within a
 * second. The provider's clock has whole milliseconds, so that a figure may be up to one too small.
 */
export const run = (): Promise<object> =>
  withStack({ users: STREAMS }, async (stack) => {
    await stack.setAnswer({ repeat: { count: 1_000_000, bytes: 4, interval_ms: INTERVAL_MS } });
    const chats = await createChats(stack, STREAMS);
    await playRound(stack, chats, 0);
    const machine = stack.machine();
    const rounds: number[][] = [];
    for (let round = 1; round <= ROUNDS; round += 1) rounds.push(await playRound(stack, chats, round));
    return {
      provider_closed_after_ms: rounded(summarise(rounds.flat())),
      p99_of_rounds_ms: rounded(summarise(rounds.map((round) => summarise(round).p99))),
      machine: machine(),
    };
  });
