import { once } from "node:events";
import { connect } from "node:net";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { createChats } from "./harness/client.ts";
import { digits, nowNs, residentBytes } from "./harness/measure.ts";
import { memoryOf } from "./harness/memory.ts";
import { type Stack, type User, withDirectory, withStack } from "./harness/stack.ts";
import { scaled, summarise } from "./support.ts";

const USERS = 10;
const FILE_BYTES = 25 * 1_048_576;
const ROUNDS = 5;
const SAMPLE_MS = 2;
const SETTLE_MS = 1_000;

const boundary = "boundary-of-the-benchmark";
const head = Buffer.from(
  `--${boundary}\r\nContent-Disposition: form-data; name="file"; filename="a.txt"\r\nContent-Type: text/plain\r\n\r\n`,
);
const tail = Buffer.from(`\r\n--${boundary}--\r\n`);
const chunk = Buffer.alloc(65_536, "Nothing new under the sun.\n");

/** Uploads a file by hand: a client library would cost more than the server. */
const upload = async (
  port: number,
  { chatId, user }: { chatId: string; user: User },
  bytes: number,
): Promise<void> => {
  const socket = connect({ port, host: "127.0.0.1", noDelay: true });
  let answer = "";
  socket.on("data", (data: Buffer) => {
    answer += data.toString("latin1");
  });
  const closed = once(socket, "close");
  socket.write(
    `POST /v1/chats/${chatId}/attachments HTTP/1.1\r\nhost: 127.0.0.1\r\nauthorization: Bearer ${user.token}\r\n` +
      `content-type: multipart/form-data; boundary=${boundary}\r\nconnection: close\r\n` +
      `content-length: ${head.length + bytes + tail.length}\r\n\r\n`,
  );
  socket.write(head);
  for (let left = bytes; left > 0; left -= chunk.length) {
    if (!socket.write(chunk.subarray(0, Math.min(chunk.length, left)))) await once(socket, "drain");
  }
  socket.write(tail);
  await closed;
  if (!answer.startsWith("HTTP/1.1 201")) throw new Error(`not uploaded: ${answer.slice(0, 1_000)}`);
};

/** The most memory the server had while the work ran, looked at every 2 ms. */
const peakDuring = async (pid: number, work: Promise<unknown>): Promise<number> => {
  let running = true;
  const done = work.finally(() => {
    running = false;
  });
  let peak = 0;
  while (running) {
    peak = Math.max(peak, residentBytes(pid));
    await sleep(SAMPLE_MS);
  }
  await done;
  return peak;
};

const measure = async (stack: Stack, file: string): Promise<object> => {
  const bytes = scaled(FILE_BYTES, 100_000);
  const all = async (size: number): Promise<void> => {
    const chats = await createChats(stack, USERS);
    await Promise.all(chats.map((chat) => upload(stack.serverPort, chat, size)));
  };
  for (let round = 0; round < 3; round += 1) await all(1_000_000);
  await sleep(SETTLE_MS);
  const machine = stack.machine();
  const cpu = stack.cpu();
  const idle = (await memoryOf(stack, file)).resident;
  const above: number[] = [];
  const speeds: number[] = [];
  for (let round = 0; round < scaled(ROUNDS); round += 1) {
    const chats = await createChats(stack, USERS);
    const begin = nowNs();
    const work = Promise.all(chats.map((chat) => upload(stack.serverPort, chat, bytes)));
    const ended = work.then(() => Number(nowNs() - begin) / 1e9);
    above.push(((await peakDuring(stack.server.pid, work)) - idle) / 1_048_576);
    speeds.push((USERS * bytes) / 1_048_576 / (await ended));
    await sleep(SETTLE_MS);
  }
  const used = cpu();
  return {
    uploads_at_once: USERS,
    mib_each: digits(bytes / 1_048_576, 2),
    idle_resident_mib: digits(idle / 1_048_576, 1),
    peak_above_idle_mib: { median: digits(summarise(above).median, 1), max: digits(Math.max(...above), 1) },
    mib_per_second: { median: digits(summarise(speeds).median, 1), min: digits(Math.min(...speeds), 1) },
    cpu_ms_per_mib: {
      server: digits(used.server / ((above.length * USERS * bytes) / 1_048_576), 2),
      provider: digits(used.provider / ((above.length * USERS * bytes) / 1_048_576), 2),
      client: digits(used.client / ((above.length * USERS * bytes) / 1_048_576), 2),
    },
    machine: machine(),
  };
};

/**
 * Ten users upload 25 MiB each at once, from the first byte to the answer: the server's resident memory at
 * its peak above what it holds when idle, and how fast the bytes reach the provider, indexing included.
 */
export const run = (): Promise<object> =>
  withDirectory(async (own) => {
    const file = join(own, "memory.json");
    const probe = new URL("harness/memory-probe.mjs", import.meta.url).href;
    const server = { nodeArgs: ["--expose-gc", "--import", probe], env: { BENCH_MEMORY_FILE: file } };
    const config = { providers: { sim: { storage_kind: "openai" } } };
    return withStack({ users: USERS, server, config }, (stack) => measure(stack, file));
  });
