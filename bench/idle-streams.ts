import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { createChats, forEachLimited, type Opened, send } from "./harness/client.ts";
import { digits } from "./harness/measure.ts";
import { type Memory, memoryOf } from "./harness/memory.ts";
import { type Stack, type User, withDirectory, withStack } from "./harness/stack.ts";

const STREAMS = 2_000;
const AT_ONCE = 50;
const ROUNDS = 2;
const WARM_UP = 100;
const SETTLE_MS = 2_000;
const FINISH_MS = 10_000;

/** Opens the streams, each with one delta received; the server then has nothing to do. */
const open = async (stack: Stack, chats: readonly { chatId: string; user: User }[]): Promise<Opened[]> => {
  const opened: Opened[] = [];
  await forEachLimited(chats, AT_ONCE, async (chat) => {
    const delta = Promise.withResolvers<void>();
    const onBytes = (bytes: Buffer): void => {
      if (bytes.includes("event: delta")) delta.resolve();
    };
    const stream = send({ port: stack.serverPort, ...chat, keep: false, onBytes });
    opened.push(stream);
    await Promise.race([delta.promise, stream.finished]);
  });
  return opened;
};

const close = async (opened: readonly Opened[]): Promise<void> => {
  for (const { socket } of opened) socket.destroy();
  await Promise.all(opened.map(({ finished }) => finished.catch(() => {})));
  await sleep(SETTLE_MS);
};

const inUnits = (memory: Memory, unit: number): Memory => ({
  resident: digits(memory.resident / unit, 1),
  heap_total: digits(memory.heap_total / unit, 1),
  heap_used: digits(memory.heap_used / unit, 1),
  external: digits(memory.external / unit, 1),
});

const measure = async (stack: Stack, file: string): Promise<object> => {
  await stack.setAnswer({ events: [{ text: "Hello." }], hang_after: 1 });
  const chats: { chatId: string; user: User }[] = [];
  for (let from = 0; from < STREAMS; from += 100) chats.push(...(await createChats(stack, 100)));
  for (let round = 0; round < 4; round += 1) await close(await open(stack, chats.slice(0, WARM_UP)));
  const machine = stack.machine();
  const before = await memoryOf(stack, file);
  const opened = await open(stack, chats);
  await sleep(SETTLE_MS);
  const after = await memoryOf(stack, file);
  const difference: Memory = {
    resident: after.resident - before.resident,
    heap_total: after.heap_total - before.heap_total,
    heap_used: after.heap_used - before.heap_used,
    external: after.external - before.external,
  };
  await close(opened);
  // Until all these turns are settled.
  await sleep(FINISH_MS);
  return {
    kib_per_stream: inUnits(difference, STREAMS * 1_024),
    mib_before: inUnits(before, 1_048_576),
    mib_open: inUnits(after, 1_048_576),
    mib_closed_again: inUnits(await memoryOf(stack, file), 1_048_576),
    machine: machine(),
  };
};

/**
 * Memory of a silent stream: 2,000 answers that stopped after one word, resident memory and heap of a
 * server after a full collection, less what it held before they were opened. A new server each round.
 */
export const run = (): Promise<object> =>
  withDirectory(async (own) => {
    const file = join(own, "memory.json");
    const probe = new URL("harness/memory-probe.mjs", import.meta.url).href;
    const server = { nodeArgs: ["--expose-gc", "--import", probe], env: { BENCH_MEMORY_FILE: file } };
    const rounds: object[] = [];
    for (let round = 0; round < ROUNDS; round += 1) {
      rounds.push(await withStack({ users: 100, server }, (stack) => measure(stack, file)));
    }
    return { streams: STREAMS, rounds };
  });
