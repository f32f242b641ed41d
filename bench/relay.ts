import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { startChild } from "./harness/child.ts";
import { createChats, type Opened, send } from "./harness/client.ts";
import { cpuMs, digits, rounded } from "./harness/measure.ts";
import { type Stack, type User, withStack } from "./harness/stack.ts";
import { summarise } from "./support.ts";

const STREAMS = 60;
const INTERVAL_MS = 20;
const ROUNDS = 3;
const SETTLE_MS = 1_000;
const WINDOW_MS = 4_000;

const pipeScript = fileURLToPath(new URL("harness/pipe.ts", import.meta.url));

interface Way {
  readonly name: string;
  readonly pid: number;
  readonly port: number;
  readonly path?: string;
}

/** CPU ms of the process per 1,000 deltas that reached the clients, streams being open already. */
const measure = async (way: Way, chats: readonly { chatId: string; user: User }[]): Promise<number> => {
  let frames = 0;
  const count = (bytes: Buffer): void => {
    for (let at = bytes.indexOf("\n\n"); at >= 0; at = bytes.indexOf("\n\n", at + 2)) frames += 1;
  };
  const { port, path } = way;
  const opened: Opened[] = chats.map((chat) =>
    send({ port, ...chat, keep: false, onBytes: count, ...(path === undefined ? {} : { path }) }),
  );
  await sleep(SETTLE_MS);
  const begin = { cpu: cpuMs(way.pid), frames };
  await sleep(WINDOW_MS);
  const used = cpuMs(way.pid) - begin.cpu;
  const relayed = frames - begin.frames;
  const expected = (STREAMS * WINDOW_MS) / INTERVAL_MS;
  if (relayed < expected / 2) throw new Error(`${way.name} relayed ${relayed} deltas of about ${expected}`);
  for (const { socket } of opened) socket.destroy();
  // Until the cancelled turns are settled.
  await sleep(SETTLE_MS);
  return used / (relayed / 1_000);
};

const compare = async (stack: Stack, ways: readonly Way[]): Promise<object> => {
  const chats = await createChats(stack, STREAMS);
  const machine = stack.machine();
  const samples: Record<string, number[]> = {};
  for (const way of ways) await measure(way, chats);
  for (let round = 0; round < ROUNDS; round += 1) {
    for (const way of round % 2 === 0 ? ways : ways.toReversed()) {
      samples[way.name] = [...(samples[way.name] ?? []), await measure(way, chats)];
    }
  }
  const of = (name: string): number[] => samples[name] ?? [];
  const ratio = (name: string): object =>
    rounded(summarise(of("server").map((cpu, at) => cpu / (of(name)[at] ?? Number.NaN))));
  return {
    deltas_per_second: digits((STREAMS * 1_000) / INTERVAL_MS, 0),
    cpu_ms_per_1000_deltas: Object.fromEntries(ways.map(({ name }) => [name, rounded(summarise(of(name)))])),
    server_to_pipe: ratio("pipe"),
    server_to_fetch_pipe: ratio("fetch_pipe"),
    machine: machine(),
  };
};

/**
 * CPU of relaying: the server, which reads, accounts and writes anew every event, beside a bare Node
 * process that passes the provider's bytes on as they are; at the same rate, by turns.
 */
export const run = (): Promise<object> =>
  withStack({ users: STREAMS }, async (stack) => {
    await stack.setAnswer({ repeat: { count: 1_000_000, bytes: 4, interval_ms: INTERVAL_MS } });
    const pipe = startChild(pipeScript, [String(stack.providerPort)], { log: join(stack.dir, "pipe.log") });
    try {
      const [, pipePort] = await pipe.printed(/^http:\/\/[^:]+:(\d+)\n/m);
      const bare = { pid: pipe.pid, port: Number(pipePort) };
      return await compare(stack, [
        { name: "server", pid: stack.server.pid, port: stack.serverPort },
        { name: "pipe", ...bare, path: "/http" },
        { name: "fetch_pipe", ...bare, path: "/fetch" },
      ]);
    } finally {
      await pipe.stop();
    }
  });
